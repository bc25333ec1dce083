"""Networks that the search never used, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench_experiment import Silent, config_for
from hashshield.bench.config import TransferConfig
from hashshield.bench.results import read_result
from hashshield.bench.transfer import run_transfer
from hashshield.errors import UsageError
from tiny_net import write_tiny


def test_transfer_holds_each_network_out_once(folder: Path) -> None:
    write_tiny(folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0})
    config, progress = config_for(folder, kind=TransferConfig, queries=3, steps=24), Silent()
    config = replace(
        config,
        models=(*config.models, f"{folder / 'other.safetensors'}:24"),
        presets=("invisible", "strong"),
        goals=("opposite",),
    )
    rows = run_transfer(config, progress)
    assert progress.count == progress.total
    names = ["none", "invisible", "noise as invisible", "strong", "noise as strong"]
    for held, other in (("tiny", "other"), ("other", "tiny")):
        found = {row["preset"]: row for row in rows if f"/{held}." in row["held_out"]}
        assert list(found) == names
        document = read_result(config.output / "results" / f"transfer-{held}.json")
        assert document["rows"] == list(found.values())
        assert [Path(name).name for name in document["environment"]["searched"]] == [f"{other}.safetensors:24"]
        assert found["none"]["mean_distance_from_original"] == 0
        for preset in ("invisible", "strong"):
            pair = found[preset], found[f"noise as {preset}"]
            assert pair[0]["largest_levels"] <= 8
            assert pair[1]["median_psnr_db"] == pytest.approx(pair[0]["median_psnr_db"], abs=0.3)
            assert pair[0]["mean_distance_from_original"] > 0
            assert all(0 <= pair[0][f"map_{way}"] <= 1 for way in ("complement", "jpeg_q75", "median", "real_valued"))
        assert found["strong"]["median_psnr_db"] < found["invisible"]["median_psnr_db"]


def test_transfer_needs_another_network_of_the_same_data(folder: Path, tmp_path: Path) -> None:
    config = config_for(folder, kind=TransferConfig)
    for models in (config.models, (*config.models, config.models[0].replace(":24", ":16"))):
        with pytest.raises(UsageError, match="name at least two checkpoints"):
            run_transfer(replace(config, models=models), Silent())
    other = write_tiny(tmp_path / "other.safetensors", seed=4, name="other", dataset="cifar10")
    with pytest.raises(UsageError, match=r"different datasets \(cifar10, folder\)"):
        run_transfer(replace(config, models=(*config.models, f"{other}:24")), Silent())
