"""Small pictures of results, with Pillow alone: line charts in panels, and sheets of photos with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hashshield.bench.pool import complete

__all__ = ["Line", "Panel", "line_chart", "sheet"]

_SCALE = 2
"""Charts are drawn larger and made small again, which smooths their lines."""
_WIDTH, _HEIGHT, _MARGIN, _LEGEND = 380, 280, 46, 18
_INK, _PALE = (40, 40, 40), (215, 215, 215)
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 120, 40), (120, 80, 200), (90, 90, 90))
"""After Okabe and Ito: told apart by colour-blind readers too."""


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart with its title."""

    title: str
    lines: Sequence[Line]


def line_chart(panels: Sequence[Panel], path: Path, *, x_label: str, y_label: str, log_x: bool = False) -> None:
    """Write panels side by side, two in a row, with one legend below; a logarithmic axis begins at 1."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    size = (across * _WIDTH, down * _HEIGHT + _LEGEND * len(names) + 10)
    canvas = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
    pen = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        corner = (index % across * _WIDTH, index // across * _HEIGHT)
        _panel(pen, corner, panel, names, x_label, y_label, log_x)
    for index, name in enumerate(names):
        y = down * _HEIGHT + index * _LEGEND + 10
        pen.line(_scaled((_MARGIN, y), (_MARGIN + 24, y)), fill=_colour(index), width=3 * _SCALE)
        _text(pen, (_MARGIN + 32, y), name, "lm")
    with complete(path) as partial:
        canvas.resize(size, Image.Resampling.LANCZOS).save(partial, "PNG", optimize=True)


def sheet(photos: Sequence[tuple[NDArray[np.uint8], str]], path: Path, *, across: int, side: int = 200) -> None:
    """Write photos in rows of `across`, each fitted into `side` pixels above its caption."""
    line = 16
    lines = max(caption.count("\n") + 1 for _, caption in photos)
    height = side + line * lines + 12
    canvas = Image.new("RGB", (across * (side + 8), -(-len(photos) // across) * height), "white")
    pen = ImageDraw.Draw(canvas)
    for index, (pixels, caption) in enumerate(photos):
        left, top = index % across * (side + 8) + 4, index // across * height + 4
        image = Image.fromarray(pixels)
        scale = side / max(image.size)
        # Tiny photos in whole pixels, so that what is seen is what was written.
        rule = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), rule)
        canvas.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        for number, text in enumerate(caption.split("\n")):
            pen.text((left + side // 2, top + side + line * number + 10), text, _INK, _font(12), "mm")
    with complete(path) as partial:
        canvas.save(partial, "PNG", optimize=True)


def _panel(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    panel: Panel,
    names: Sequence[str],
    x_label: str,
    y_label: str,
    log_x: bool,
) -> None:
    left, top = corner[0] + _MARGIN, corner[1] + 26
    right, bottom = corner[0] + _WIDTH - 14, corner[1] + _HEIGHT - 40
    xs = [value for line in panel.lines for value in line.x if value >= 1 or not log_x]
    ys = [value for line in panel.lines for value in line.y]
    ends = (min(xs), max(xs))
    highest = max(*ys, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        low, high, here = (math.log10(v) if log_x else v for v in (*ends, max(x, ends[0])))
        share = (here - low) / max(high - low, 1e-9)
        return left + share * (right - left), bottom - y / highest * (bottom - top)

    _text(pen, ((left + right) / 2, corner[1] + 12), panel.title, "mm", 14)
    for number in range(5):
        y = highest * number / 4
        pen.line(_scaled(at(ends[0], y), at(ends[1], y)), fill=_PALE, width=_SCALE)
        _text(pen, (left - 6, at(0 if not log_x else 1, y)[1]), f"{y:.3g}", "rm")
    for x in _ticks(*ends, log_x=log_x):
        pen.line(_scaled(at(x, 0), at(x, highest)), fill=_PALE, width=_SCALE)
        _text(pen, (at(x, 0)[0], bottom + 12), f"{x:g}", "mm")
    _text(pen, ((left + right) / 2, bottom + 28), x_label, "mm")
    _text(pen, (left, corner[1] + 12), y_label, "lm", 11)
    for line in panel.lines:
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if x >= ends[0]]
        pen.line(_scaled(*points), fill=_colour(names.index(line.name)), width=2 * _SCALE, joint="curve")


def _ticks(low: float, high: float, *, log_x: bool) -> list[float]:
    if log_x:
        return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return [low + (high - low) * number / 4 for number in range(5)]


def _colour(index: int) -> tuple[int, int, int]:
    return _COLOURS[index % len(_COLOURS)]


def _scaled(*points: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]


def _text(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str, size: int = 12) -> None:
    pen.text((place[0] * _SCALE, place[1] * _SCALE), text, _INK, _font(size * _SCALE), anchor)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
