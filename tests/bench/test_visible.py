"""`bench visible` on the tiny network: presets beside JPEG and noise, as a table, a file and a chart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_experiment import Silent
from hashshield.bench import visible
from hashshield.bench.config import VisibleConfig
from hashshield.bench.results import read_result
from hashshield.bench.visible import butteraugli_norm, has_butteraugli, has_ssimulacra2, ssimulacra2_score
from hashshield.errors import UsageError
from hashshield.metrics.visibility import visibility
from tiny_net import encoded, picture, write_tiny

NAMES = ("0.jpg", "sub/1.jpg", "2.jpg")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> VisibleConfig:
    pytest.importorskip("matplotlib", reason="the extra bench is not installed")
    root = tmp_path_factory.mktemp("visible")
    (root / "photos" / "sub").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        (root / "photos" / name).write_bytes(encoded(picture(90, 120, seed=seed), "JPEG"))
    (root / "two.txt").write_text("2.jpg\nsub/1.jpg\n\n")
    write_tiny(root / "tiny.safetensors")
    return VisibleConfig(
        photos=root / "photos",
        names=root / "two.txt",
        model=f"{root / 'tiny.safetensors'}:16",
        presets=("invisible",),
        output=root / "out",
        steps=40,
        device="cpu",
    )


def test_presets_stand_beside_jpeg_and_noise(config: VisibleConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(config.output))  # no judge is found there
    progress = Silent()
    rows = visible.run_visible(config, progress)
    assert progress.count == progress.total == 2 * 9
    by_change = {row["change"]: row for row in rows}
    assert list(by_change) == [
        *("invisible", "jpeg q95", "jpeg q90", "jpeg q85", "jpeg q75", "jpeg q60"),
        *("masked noise 2", "masked noise 4", "masked noise 8"),
    ]
    ours = by_change["invisible"]
    assert ours["photos"] == 2
    assert 0 <= ours["protected"] <= 2
    assert ours["evaluations"] > 0
    assert ours["seconds"] > 0
    assert ours["survived"].keys() == {"jpeg q90", "jpeg q75", "half size", "half + jpeg q75"}
    assert max(ours["survived"].values()) <= ours["protected"], "what is not protected keeps nothing"
    for name in ("jpeg q", "masked noise "):
        values = [row["visibility"] for change, row in by_change.items() if change.startswith(name)]
        assert values == sorted(values)
        assert 0 < values[0] < values[-1]
    assert by_change["jpeg q60"]["survived"] is by_change["jpeg q60"]["protected"] is None
    assert {row["butteraugli"] for row in rows} == {"not available"}

    document = read_result(config.output / "results" / "visible-two.json")
    assert document["rows"] == json.loads(json.dumps(rows))
    assert [row["photo"] for row in document["photos"][:2]] == ["2.jpg", "sub/1.jpg"]
    table = (config.output / "results" / "visible-two.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith(f"| invisible | {ours['protected']} of 2 | {ours['visibility']:.2f} / ")
    assert (config.output / "plots" / "visible-two.png").read_bytes()[:4] == b"\x89PNG"


def test_of_a_large_photo_the_middle_is_judged() -> None:
    assert visible._middle(2000, 2000) == (slice(None), slice(None))
    rows, columns = visible._middle(3000, 4000)
    assert (rows, columns) == (slice(500, 2500), slice(1000, 3000))
    assert visible._middle(1000, 9000) == (slice(0, 2000), slice(3500, 5500))


def test_noise_stays_off_flat_ground() -> None:
    pixels = np.full((60, 120, 3), 120, np.uint8)
    pixels[:, 60:] = np.random.default_rng(0).integers(0, 256, (60, 60, 3))
    change = np.abs(visible._masked_noise(pixels, 6, 0).astype(int) - pixels).mean(axis=(0, 2))
    assert change[:55].mean() < 0.2 * change[65:].mean()


@pytest.mark.parametrize("text", ["", "gone.jpg\n2.jpg\n"])
def test_a_list_of_other_photos_is_refused(text: str, config: VisibleConfig, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(text)
    with pytest.raises(UsageError, match=r"names\.txt: \d of \d names are no photos below"):
        visible.run_visible(replace(config, names=names), Silent())


def test_a_list_that_is_not_there_is_said(config: VisibleConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.txt: cannot be read"):
        visible.run_visible(replace(config, names=tmp_path / "gone.txt"), Silent())


@pytest.mark.skipif(not has_butteraugli(), reason="butteraugli_main is not installed")
def test_butteraugli_is_read() -> None:
    before = picture(90, 120)
    after = np.clip(before + np.random.default_rng(0).normal(0, 4, before.shape), 0, 255).astype(np.uint8)
    assert butteraugli_norm(before, before) == 0
    assert butteraugli_norm(before, after) == pytest.approx(visibility(before, after), rel=0.5)


@pytest.mark.skipif(not has_ssimulacra2(), reason="SSIMULACRA2 is not installed")
def test_ssimulacra2_is_read() -> None:
    before = picture(90, 120)
    after = np.clip(before + np.random.default_rng(0).normal(0, 4, before.shape), 0, 255).astype(np.uint8)
    assert ssimulacra2_score(before, before) == pytest.approx(100, abs=0.5)
    assert ssimulacra2_score(before, after) < 95
