from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashshield.bench.plots import Curve, Panel, line_chart, photo_sheet, require_matplotlib
from hashshield.errors import UsageError

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
