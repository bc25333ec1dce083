"""Plots of results: line charts in panels, drawn by matplotlib, and sheets of photos with captions, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hashshield.arrays import Pixels
from hashshield.bench.results import replacing
from hashshield.errors import UsageError

__all__ = ["Curve", "Panel", "line_chart", "photo_sheet", "require_matplotlib"]

_PANEL_INCHES, _DPI = (3.8, 2.8), 100
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#567828", "#7850c8", "#5a5a5a")
"""After Okabe and Ito, so that colour-blind readers tell them apart too."""
_STYLES = ("-", "--", ":")
"""Of the first lines in all colours, of the next, and so on."""
_INK = (40, 40, 40)
_CAPTION_LINE, _CAPTION_SIZE, _GAP = 16, 12, 4
"""Pixels of a caption's line, of its letters, and around each photo of a sheet."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A named curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart with its title."""

    title: str
    lines: Sequence[Curve]


def require_matplotlib() -> None:
    """Raise UsageError unless matplotlib can be imported; benches call this before they begin to compute."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "this bench draws a chart and needs matplotlib; install it with `pipx inject hashshield matplotlib`, or "
            "with the extra hashshield[bench]"
        ) from error


def line_chart(panels: Sequence[Panel], path: Path, *, x_label: str, y_label: str, log_x: bool = False) -> None:
    """Write panels side by side, two in a row, with one legend below them, as a PNG.

    A logarithmic axis begins at 1: points before it are left out. Raise UsageError without matplotlib.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    legend = 0.2 * len(names)
    size = (_PANEL_INCHES[0] * across, _PANEL_INCHES[1] * down + legend)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=False):
        for line in panel.lines:
            points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if x >= 1 or not log_x]
            style, colour = divmod(names.index(line.name), len(_COLOURS))
            axes.plot(
                *zip(*points, strict=True),
                color=_COLOURS[colour],
                linestyle=_STYLES[style % len(_STYLES)],
                label=line.name,
            )
        axes.set(title=panel.title, xlabel=x_label, ylabel=y_label)
        axes.set_ylim(bottom=0)
        if log_x:
            axes.set_xscale("log")
        axes.grid(color="#d7d7d7")
    handles = {handle.get_label(): handle for axes in figure.axes for handle in axes.get_lines()}
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    figure.legend(handles=[handles[name] for name in names], loc="outside lower left", frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def photo_sheet(photos: Sequence[tuple[Pixels, str]], path: Path, *, across: int, side: int = 200) -> None:
    """Write photos in rows of `across` as a PNG, each fitted into `side` pixels above its caption."""
    lines = max(caption.count("\n") + 1 for _, caption in photos)
    height = side + _CAPTION_LINE * lines + 3 * _GAP
    canvas = Image.new("RGB", (across * (side + 2 * _GAP), -(-len(photos) // across) * height), "white")
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_CAPTION_SIZE)
    for index, (pixels, caption) in enumerate(photos):
        left, top = index % across * (side + 2 * _GAP) + _GAP, index // across * height + _GAP
        image = Image.fromarray(pixels)
        scale = side / max(image.size)
        # Tiny photos are enlarged to whole pixels, so that the sheet shows what was written.
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resample)
        canvas.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        for number, text in enumerate(caption.split("\n")):
            pen.text((left + side // 2, top + side + _CAPTION_LINE * number + 10), text, _INK, font, "mm")
    with replacing(path) as partial:
        canvas.save(partial, "PNG", optimize=True)
