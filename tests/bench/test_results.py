"""Trials and result files: written whole, found again, and taken up after an interruption."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench_experiment import Silent, config_for, trials
from hashshield.attacks import version_of
from hashshield.bench import results
from hashshield.bench.config import BaselineConfig
from hashshield.bench.results import (
    Curve,
    Panel,
    TrialCache,
    environment,
    line_chart,
    peak_mib,
    photo_sheet,
    read_result,
    recording,
    require_matplotlib,
)
from hashshield.bench.targeted import run_targeted
from hashshield.bench.untargeted import run_untargeted
from hashshield.errors import StorageError, UsageError

Rows = list[dict[str, Any]]


class Stops(Silent):
    """A user who interrupts after so many units."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def done(self, outcome: object) -> None:
        super().done(outcome)
        if self.count == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("bench", "rows"), [(run_targeted, 16), (run_untargeted, 16)])
def test_an_interrupted_bench_is_unfinished_and_goes_on(
    bench: Callable[[BaselineConfig, Silent], Rows], rows: int, folder: Path, tmp_path: Path
) -> None:
    # Data and network of the others, so that only the trials are new.
    few = {"queries": 2, "limit": 4, "anchor": 3}
    config = config_for(folder, kind=BaselineConfig, steps=3, seed=5, **few)
    config = replace(config, output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        bench(config, Stops(8))
    name = next((tmp_path / "out" / "results").iterdir()).name.removesuffix(".unfinished")
    with pytest.raises(UsageError, match="has begun and not finished; run its command again"):
        read_result(tmp_path / "out" / "results" / name)
    before = trials(config)
    assert before
    assert len(bench(config, Silent())) == rows
    assert before.items() <= trials(config).items(), "what was made stays as it is"
    assert read_result(tmp_path / "out" / "results" / name)["rows"]
    made = trials(config)
    bench(config, Silent())
    assert trials(config) == made


@pytest.mark.parametrize("content", ["", "{", '{"bench": "tau"}', "[]"])
def test_a_damaged_result_is_no_half_table(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tau-tiny.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"tau-tiny\.json"):
        read_result(path)
    with pytest.raises(UsageError, match="no such result"):
        read_result(tmp_path / "none.json")


def test_another_version_of_the_search_uses_no_old_trial(tmp_path: Path) -> None:
    cache, pixels = TrialCache(tmp_path), np.zeros((4, 4, 3), np.uint8)
    cache.keep({"photo": "a"}, pixels, {})
    assert cache.trial({"photo": "a"}) is not None
    assert cache.trial({"photo": "a", "search": version_of() + 1}) is None


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / ("x" * 300), tmp_path / "file"):
        with pytest.raises(StorageError, match=f"writing {output}"), recording("map", "tiny", output, {}):
            pytest.fail("the bench began")


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    cache = TrialCache(tmp_path)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    kept = cache.keep({"a": 1}, pixels, {"steps": 3})
    assert (kept.pixels == pixels).all()
    assert kept.record == {"steps": 3}
    assert cache.trial({"a": 2}) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=f"{path}: no readable trial"):
        cache.trial({"a": 1})
    cache.keep_table({"t": 1}, code=np.ones((2, 3), np.float32))
    assert cache.table({"t": 1})["code"].tolist() == [[1, 1, 1], [1, 1, 1]]  # type: ignore[index]
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(b"no table")
    with pytest.raises(UsageError, match="no readable table"):
        cache.table({"t": 1})


def test_memory_is_measured_or_not_known_where_python_has_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none; at first the bench failed there."""
    assert peak_mib() > 10
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(peak_mib())


BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def shares(path: Path) -> dict[tuple[int, int, int], np.ndarray]:
    """Where each colour of a line is, (H, W)."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return {colour: np.abs(pixels - colour).sum(axis=2) < 60 for colour in (BLUE, ORANGE)}


def test_a_falling_line_falls_and_a_level_one_stays(tmp_path: Path) -> None:
    lines = [Curve("falls", [0, 1, 10, 100], [8, 8, 4, 0]), Curve("stays", [0, 1, 10, 100], [6, 6, 6, 6])]
    line_chart([Panel("16 bits", lines)], tmp_path / "a.png", x_label="step", y_label="distance", log_x=True)
    found = shares(tmp_path / "a.png")
    chart = found[BLUE][:230]
    rows, columns = np.nonzero(chart)
    left, right = rows[columns < columns.min() + 20].mean(), rows[columns > columns.max() - 20].mean()
    assert right > left + 100, "down the picture is down the scale"
    rows, columns = np.nonzero(found[ORANGE][:230])
    assert rows.max() - rows.min() <= 6
    assert columns.max() - columns.min() > 250
    for colour in (BLUE, ORANGE):
        assert found[colour][270:].any(), "the legend names it"


def test_panels_stand_side_by_side_and_linear_axes_take_zero(tmp_path: Path) -> None:
    panel = Panel("p", [Curve("a", [0, 0.5, 1.0], [1.0, 0.5, 0.5])])
    line_chart([panel], tmp_path / "one.png", x_label="recall", y_label="precision")
    line_chart([panel] * 3, tmp_path / "three.png", x_label="recall", y_label="precision")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "three.png") as three:
        assert three.width == 2 * one.width
        assert three.height > one.height
    assert list(tmp_path.glob(".*")) == [], "no half picture is left"


def test_a_sheet_shows_photos_as_they_are(tmp_path: Path) -> None:
    red, small = np.full((40, 80, 3), (250, 10, 10), np.uint8), np.zeros((4, 4, 3), np.uint8)
    small[:2] = 200
    photo_sheet([(red, "red"), (small, "small\n12 dB")], tmp_path / "s.png", across=2, side=100)
    with Image.open(tmp_path / "s.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[4 + 50, 4 + 50] == (250, 10, 10)).all()
    assert set(map(tuple, pixels[4:104, 112:212].reshape(-1, 3))) == {(200, 200, 200), (0, 0, 0)}, "no blur"


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="needs matplotlib; install it with `pipx inject hashshield matplotlib`"):
        require_matplotlib()


def test_only_changes_of_the_package_make_its_commit_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "src" / "package" / "bench" / "results.py"
    module.parent.mkdir(parents=True)
    module.write_text("one")
    monkeypatch.setattr(results, "__file__", str(module))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["commit"] is None
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "."), (*person, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    clean = environment()["commit"]
    (tmp_path / "result.json").write_text("{}")
    assert environment()["commit"] == clean
    module.write_text("two")
    assert environment()["commit"] == f"{clean}-dirty"
