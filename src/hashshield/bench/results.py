"""Cached trials and code tables, result files with the environment they were measured in, and plots.

A trial is one photo changed by one method, stored as a PNG file with its record as text. Its name is a digest of
everything that determines the result, including the version of its search, so an outdated trial is never reused. An
interrupted bench continues with its cached trials, and benches share them.

Plots are line charts in panels, drawn with matplotlib, and sheets of photos with captions, drawn with Pillow.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hashshield.arrays import Pixels
from hashshield.attacks import version_of
from hashshield.errors import UsageError
from hashshield.paths import exists
from hashshield.storage import digest
from hashshield.storage.calls import storage_errors

__all__ = [
    "BenchResult",
    "Curve",
    "Panel",
    "Stopwatch",
    "Trial",
    "TrialCache",
    "environment",
    "environments_of",
    "line_chart",
    "peak_mib",
    "photo_sheet",
    "read_result",
    "recording",
    "replacing",
    "require_matplotlib",
    "stale_searches",
]

_TEXT = "hashshield-trial"
_NOTE = ".unfinished"


def environment(*, searches: Iterable[str] = (), **settings: Any) -> dict[str, Any]:
    """Return versions, processor, threads, the commit of a checkout, and the settings of the run.

    `searches` are the presets and methods used; each is recorded with the version of its search, so that `make
    results-check` finds stale results.
    """
    return {
        "hashshield": _version("hashshield"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "pillow": _version("pillow"),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "search_versions": {name: version_of(name) for name in sorted(set(searches))},
        **settings,
    }


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    if platform.system() == "Linux":
        # getrusage would count the process that started this one as well.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


class Stopwatch:
    """Wall-clock seconds of named blocks, one entry each time a block runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Time the context under `name`; one that raises is not counted."""
        began = time.monotonic()
        yield
        self.seconds[name].append(time.monotonic() - began)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str | None:
    """Return the commit of the checkout that holds this package, or None for an installed one.

    "-dirty" is appended if a file of the package differs from the commit; new results do not count.
    """
    package = Path(__file__).parents[1]

    def asked(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        return asked("describe", "--always") + ("-dirty" if asked("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A changed photo as it was written."""

    pixels: Pixels
    """Upright (H, W, 3), decoded from the file."""
    record: dict[str, Any]
    """Measurements of its search: steps, seconds, distances by step."""


class TrialCache:
    """A folder of trials and code tables, keyed by the settings that determine them.

    The settings of a trial include the version of its search, as `search`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trial(self, settings: dict[str, Any]) -> Trial | None:
        """Return the trial with these settings, or None. Raise UsageError if it is damaged."""
        path = self._path(settings, "png")
        if not exists(path):
            return None
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                return Trial(np.asarray(image), json.loads(image.info[_TEXT]))
        except (OSError, KeyError, ValueError, SyntaxError) as error:
            raise UsageError(f"{path}: no readable trial ({error}); remove it, and it is made again") from error

    def keep(self, settings: dict[str, Any], pixels: Pixels, record: dict[str, Any]) -> Trial:
        """Write a trial and return it as read back."""
        text = PngImagePlugin.PngInfo()
        text.add_text(_TEXT, json.dumps(record), zip=True)
        with replacing(self._path(settings, "png")) as partial:
            Image.fromarray(pixels).save(partial, "PNG", pnginfo=text, compress_level=1)
        found = self.trial(settings)
        assert found is not None
        return found

    def table(self, settings: dict[str, Any]) -> dict[str, NDArray[Any]] | None:
        """Return the arrays stored with these settings, by name, or None. Raise UsageError if they are damaged."""
        path = self._path(settings, "safetensors")
        if not exists(path):
            return None
        try:
            found: dict[str, NDArray[Any]] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(f"{path}: no readable table of codes ({error}); remove it") from error
        return found

    def keep_table(self, settings: dict[str, Any], **arrays: NDArray[Any]) -> None:
        """Store arrays, by name, with these settings."""
        with replacing(self._path(settings, "safetensors")) as partial:
            save_file(arrays, partial)

    def _path(self, settings: dict[str, Any], ending: str) -> Path:
        text = json.dumps({"search": version_of(), **settings}, sort_keys=True)
        return self.folder / f"{digest(text.encode())[:32]}.{ending}"


@dataclass(slots=True)
class BenchResult:
    """The content of a result file before it is written."""

    path: Path
    plot: Path
    """Path of the result's plot."""
    environment: dict[str, Any]
    """Versions, machine and settings of the run."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Further top-level entries of the file: curves, lists."""


@contextmanager
def recording(bench: str, checkpoint: str, output: Path, environment: dict[str, Any]) -> Iterator[BenchResult]:
    """Note that a bench has begun; write its result file at the end of the context, unless it raises."""
    path = output / "results" / f"{bench}-{checkpoint}.json"
    result = BenchResult(path, output / "plots" / f"{bench}-{checkpoint}.png", environment)
    note = path.with_name(path.name + _NOTE)
    _write(note, {"bench": bench, "environment": environment})
    yield result
    _write(path, {"bench": bench, "environment": environment, "rows": result.rows, **result.extra})
    note.unlink(missing_ok=True)


def stale_searches(document: dict[str, Any]) -> list[str]:
    """Return the presets and methods of a result whose search has changed since; [] if it is up to date.

    Return ["all"] for a result from before versions were recorded.
    """
    made = environments_of(document)
    if not made or not all("search_versions" in each for each in made):
        return ["all"]
    return sorted({n for each in made for n, v in each["search_versions"].items() if v != version_of(n)})


def environments_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the environments in a result: one for all of it, or one for each of some rows."""
    rows = [row for key in ("rows", "results") for row in document.get(key, ()) if isinstance(row, dict)]
    found = [document.get("environment"), *(row.get("environment") for row in rows)]
    return [each for each in found if isinstance(each, dict)]


def read_result(path: Path) -> dict[str, Any]:
    """Read a finished result file. Raise UsageError for one that is missing, unfinished or damaged."""
    if not exists(path):
        if path.with_name(path.name + _NOTE).exists():
            raise UsageError(
                f"{path}: this bench has begun and not finished; run its command again, it goes on where it stopped"
            )
        raise UsageError(f"{path}: no such result; `hashshield bench` writes them")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run its bench again") from error
    if not isinstance(document, dict) or not document.get("rows") or "bench" not in document:
        raise UsageError(f"{path}: holds no rows of a bench; run it again")
    return document


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` after the block, or is removed if the block raises.

    Raise StorageError if the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(f"writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _write(path: Path, document: dict[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


_PANEL_INCHES, _DPI = (3.8, 2.8), 100
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#567828", "#7850c8", "#5a5a5a")
"""Mostly Okabe and Ito's, which colour-blind readers can tell apart."""
_STYLES = ("-", "--", ":")
"""Style of the first lines, one in each colour, of the next ones, and so on."""
_INK = (40, 40, 40)
_CAPTION_LINE, _CAPTION_SIZE, _GAP = 16, 12, 4
"""Pixels: height of a caption's line, size of its letters, gap around each photo of a sheet."""


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
    """Raise UsageError unless matplotlib can be imported; benches call this before they compute anything."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "this bench draws a chart and needs matplotlib; install it with `pipx inject hashshield matplotlib`, or "
            "with the extra hashshield[bench]"
        ) from error


def line_chart(panels: Sequence[Panel], path: Path, *, x_label: str, y_label: str, log_x: bool = False) -> None:
    """Write panels, two in a row, with one legend below them, as a PNG.

    A logarithmic x axis begins at 1; points below are dropped. Raise UsageError without matplotlib.
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
        # Tiny photos are enlarged without smoothing, so that the sheet shows the written pixels.
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resample)
        canvas.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        for number, text in enumerate(caption.split("\n")):
            pen.text((left + side // 2, top + side + _CAPTION_LINE * number + 10), text, _INK, font, "mm")
    with replacing(path) as partial:
        canvas.save(partial, "PNG", optimize=True)
