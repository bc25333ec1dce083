"""Networks that the search never used, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench_experiment import Silent, config_for
from hashshield.bench.config import TransferConfig
from hashshield.bench.results import read_result
from hashshield.bench.transfer import run_transfer
from hashshield.checkpoints.cache import digest_of
from hashshield.errors import UsageError
from judge_nets import detector_file, residual_file
from tiny_net import write_tiny

LITE = "lite0-caltech101:48"


@pytest.mark.long
def test_transfer_holds_each_network_out_once(folder: Path) -> None:
    write_tiny(folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0})
    config, progress = config_for(folder, kind=TransferConfig, queries=3, steps=24), Silent()
    config = replace(
        config,
        models=(*config.models, f"{folder / 'other.safetensors'}:24"),
        presets=("invisible", "strong"),
        goals=("opposite",),
        hold_out="network",
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
        assert (found["none"]["first"], found["none"]["lineage"]) == (1, "shufflenet_v")
        for preset in ("invisible", "strong"):
            pair = found[preset], found[f"noise as {preset}"]
            assert pair[0]["largest_levels"] <= 8
            assert pair[1]["median_visibility"] == pytest.approx(pair[0]["median_visibility"], rel=0.05, abs=0.02)
            assert pair[0]["first_low"] <= pair[0]["first"] <= pair[0]["first_high"]
            assert 0 <= pair[0]["first_jpeg_q75"] <= 1
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


def test_a_whole_lineage_is_left_out(folder: Path) -> None:
    split = {"queries": 8, "seed": 0}
    for name, lineage in (("kin", ""), ("far", "elsewhere")):
        write_tiny(folder / f"{name}.safetensors", seed=4, name=name, dataset="folder", split=split, lineage=lineage)
    config = config_for(folder, kind=TransferConfig, queries=2, steps=2)
    models = (*config.models, *(f"{folder / name}.safetensors:24" for name in ("kin", "far")))
    config = replace(config, models=models, presets=("invisible",), goals=("opposite",))
    run_transfer(config, Silent())
    for held, searched in (("tiny", ["far"]), ("kin", ["far"]), ("far", ["tiny", "kin"])):
        document = read_result(config.output / "results" / f"transfer-{held}.json")
        assert [Path(name).stem for name in document["environment"]["searched"]] == searched
        assert {row["lineage"] for row in document["rows"]} == {"elsewhere" if held == "far" else "shufflenet_v"}
    with pytest.raises(UsageError, match=r"all of one lineage \(shufflenet_v\)"):
        run_transfer(replace(config, models=models[:2]), Silent())
    with pytest.raises(UsageError, match=r"neither lineage nor network, nor one of .*tiny"):
        run_transfer(replace(config, hold_out="both"), Silent())


def test_a_named_network_alone_is_left_out(folder: Path, tmp_path: Path) -> None:
    other = write_tiny(
        folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0}
    )
    config = config_for(folder, kind=TransferConfig, queries=2, steps=2)
    config = replace(config, models=(*config.models, f"{other}:24"), presets=("invisible",), goals=("opposite",))
    rows = run_transfer(replace(config, hold_out=str(other), output=tmp_path), Silent())
    assert {Path(row["held_out"]).stem for row in rows} == {"other"}
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["transfer-other.json"]


@pytest.mark.long
def test_a_surrogate_is_moved_by_strong_alone(folder: Path, tmp_path: Path) -> None:
    config = config_for(folder, kind=TransferConfig, queries=2, steps=2)
    config = replace(
        config,
        presets=("invisible", "strong"),
        goals=("opposite",),
        judges=(f"residual={residual_file(tmp_path)}",),
    )
    alone = {row["preset"]: row for row in run_transfer(config, Silent())}
    together = {row["preset"]: row for row in run_transfer(replace(config, surrogates=(LITE,)), Silent())}
    document = read_result(config.output / "results" / "transfer-tiny.json")
    assert document["environment"]["surrogates"] == [LITE]
    assert [Path(name).stem for name in document["environment"]["searched"]] == ["tiny"]
    assert together["invisible"] == alone["invisible"]
    assert together["strong"]["median_visibility"] > 1.2 * alone["strong"]["median_visibility"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("{tiny}:16", "is also a --model; name it once"), ("{other}:24", "surrogates are EfficientNet-Lites")],
)
def test_what_cannot_be_a_surrogate(folder: Path, tmp_path: Path, name: str, fault: str) -> None:
    other = write_tiny(tmp_path / "other.safetensors", seed=4, name="other", dataset="folder")
    config = config_for(folder, kind=TransferConfig)
    config = replace(config, judges=(f"residual={residual_file(tmp_path)}",))
    named = name.format(tiny=config.models[0].removesuffix(":24"), other=other)
    with pytest.raises(UsageError, match=fault):
        run_transfer(replace(config, surrogates=(named,)), Silent())


def test_networks_that_only_judge(folder: Path, tmp_path: Path) -> None:
    config, progress = config_for(folder, kind=TransferConfig, queries=3, steps=24), Silent()
    judges = (f"residual={residual_file(tmp_path)}", f"sscd={detector_file(tmp_path)}")
    config = replace(config, presets=("invisible",), goals=("opposite",), judges=judges)
    rows = run_transfer(config, progress)
    assert progress.count == progress.total
    names = ["none", "invisible", "noise as invisible"]
    assert [(row["held_out"], row["preset"]) for row in rows if row["preset"] == "none"] == [
        ("residual", "none"),
        ("sscd", "none"),
    ]
    document = read_result(config.output / "results" / "transfer-tiny.json")
    assert document["rows"] == rows
    assert [Path(name).stem for name in document["environment"]["searched"]] == ["tiny"]
    for judge, file in (("residual", residual_file(tmp_path)), ("sscd", detector_file(tmp_path))):
        found = {row["preset"]: row for row in rows if row["held_out"] == judge}
        assert sorted(found) == sorted(names)
        assert {row["judge_sha256"] for row in found.values()} == {digest_of(file)}
        assert found["none"]["first"] == 1
        assert found["none"]["above_threshold"] == 0, "of 24 unrelated pairs none is one in a thousand"
        assert found["none"]["map"] > 0.7, "it tells the classes, which have a colour each"
        for row in found.values():
            for key in ("map", "first", "above_threshold", "map_jpeg_q75", "first_jpeg_q75"):
                low, high = (
                    f"{key.removesuffix('_jpeg_q75')}{'_jpeg_q75' * ('q75' in key)}_{end}" for end in ("low", "high")
                )
                assert 0 <= row[low] <= row[key] <= row[high] <= 1
    sscd, residual = ({row["preset"]: row for row in rows if row["held_out"] == name} for name in ("sscd", "residual"))
    assert (residual["none"]["bits"], residual["none"]["mean_distance_from_original"]) == (48, 0)
    assert sscd["none"]["bits"] is None
    assert sscd["none"]["mean_cosine_to_original"] == pytest.approx(1, abs=1e-4)
    assert 0.99 < sscd["invisible"]["mean_cosine_to_original"] <= 1, "means of fields hardly see the change"
    assert sscd["invisible"]["first"] == 1
