"""One photo at work: what goes in and comes out, and the steps around the search that need no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.attacks.finish import apply, uniform_noise
from hashshield.attacks.goals import Aim, photo_generator
from hashshield.attacks.grid import Grid, make_grid
from hashshield.attacks.loop import Budget
from hashshield.attacks.masking import Masking, masking
from hashshield.attacks.methods import Method
from hashshield.attacks.presets import Preset
from hashshield.metrics.image import linf_levels
from hashshield.models.hash_files import upright_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.aims import Mark
from hashshield.pipeline.look import open_photo
from hashshield.pipeline.looks import Look, looks_of
from hashshield.pipeline.receipt import Reread, read_again
from hashshield.types import GoalSpec, Receipt
from hashshield.views import framing, pillow_view, resized, to_image

__all__ = ["Result", "Source", "Task", "Tools", "aware", "prepare", "write"]

_KEEP_DECODED = 8_000_000
"""Bytes of pixels up to which a decoded photo is kept until it is written."""
_CODEC_IN_LOOP = 1_500_000
"""Pixels up to which a later try writes and reads the photo at every step."""

Bits = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Source:
    """One photo's bytes, and how it is named."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    key: object = None
    """Handed back with the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """Everything the work needs but the photos."""

    models: tuple[OpenModel, ...]
    preset: Preset
    method: Method
    budget: Budget
    goal: GoalSpec
    fixed: Sequence[Bits] | None
    """Wanted bits per model where they do not depend on the photo."""
    secret: bytes
    """Key of the per-photo randomness."""
    tolerance: int | None
    witnesses: tuple[OpenModel, ...] = ()
    """Networks that are not searched on and only asked about results."""
    survival: bool = False
    """Whether receipts are to hold what is left after each service."""
    strip: imaging.Strip = field(default_factory=imaging.Strip)
    lossy_formats: bool = False
    """Whether HEIC and AVIF are worked on."""
    jobs: int = 2
    results_before: frozenset[str] = frozenset()
    """Pixel digests of earlier runs' results: a photo with one of these had only its metadata edited since."""
    notice: Callable[[str], None] = lambda text: None
    """Told what the user should know, such as a change of device."""

    @property
    def looks(self) -> tuple[Look, ...]:
        """Each network in each view that is promised."""
        return looks_of(self.models, self.preset.views)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one photo; `data` is None when it could not be worked on."""

    source: Source
    data: bytes | None = None
    receipt: Receipt | None = None
    marks: tuple[Mark, ...] = ()
    pixels_after: str | None = None
    steps: int = 0
    seconds: float = 0.0
    reason: str | None = None
    unprotected_copies: tuple[str, ...] = ()
    links_to_owner: tuple[str, ...] = ()
    already: str | None = None
    """Pixel digest of a photo that is an earlier run's result; nothing was done to it."""


@dataclass(eq=False)
class Task:
    """One photo on its way through."""

    source: Source
    grid: Grid
    views: tuple[Tensor, ...]
    photo: imaging.Photo | None
    """The decoded photo while it is small enough to keep."""
    lossless: bool
    pixels: int
    """How many the photo has."""
    already: str | None = None
    lossy_format: bool = False
    """Whether its container is one that has to be asked for."""
    witness_views: tuple[Tensor, ...] = ()
    statements: tuple[NDArray[np.int8], ...] = ()
    """Bits that each witness gives the original."""
    marks: tuple[Mark, ...] = ()
    aims: tuple[Aim, ...] = ()
    masking: Masking | None = None
    """Where a change is seen least, for presets that mind."""
    scale: float = 1.0
    """Photo pixels per grid pixel."""
    tries: int = 0
    steps: int = 0
    seconds: float = 0.0
    best: tuple[bytes, Receipt, Reread] | None = None
    delta: Tensor | None = None

    def decoded(self) -> imaging.Photo:
        """The photo, decoded again where it was too large to keep."""
        return self.photo or imaging.read(self.source.data, name=self.source.name)


def prepare(source: Source, tools: Tools) -> Task:
    """Decode a photo and make what the search needs of it. Raises PhotoError."""
    photo = open_photo(source.data, name=source.name, lossy_formats=tools.lossy_formats)
    shown = upright_rgb(photo)
    opaque = None if photo.alpha is None else imaging.upright(photo.alpha, photo.orientation)
    grid = make_grid(shown, channels=photo.pixels.shape[2], opaque=opaque)
    if (photo.lossless or tools.preset.sees_writing) and _is_small(photo) and not tools.method.noise:
        grid = _with_codec(grid, photo, source, tools)
    return Task(
        source=source,
        grid=grid,
        views=tuple(_view(shown, grid, look) for look in tools.looks),
        witness_views=tuple(_view(shown, grid, Look(model)) for model in tools.witnesses),
        photo=photo if photo.pixels.nbytes <= _KEEP_DECODED else None,
        lossless=photo.lossless,
        scale=min(shown.shape[:2]) / min(grid.image.shape[1:]),
        masking=masking(shown, *grid.image.shape[1:]) if tools.preset.masked else None,
        pixels=photo.pixels.shape[0] * photo.pixels.shape[1],
        already=_result_before(photo, tools),
        lossy_format=photo.container in imaging.LOSSY_FORMATS,
    )


def _view(shown: NDArray[np.uint8], grid: Grid, look: Look) -> Tensor:
    """A view of the original; out of the grid where both resize alike, which saves a pass over the photo."""
    size = look.model.card.input
    goal, (rows, columns) = framing(look.view, size, shown.shape[0], shown.shape[1])
    if goal != grid.image.shape[1:]:
        return pillow_view(shown, size, look.view)
    return grid.image[:, rows, columns]


def _result_before(photo: imaging.Photo, tools: Tools) -> str | None:
    digest = imaging.pixel_digest(photo) if tools.results_before else None
    return digest if digest in tools.results_before else None


def _changed_pixels(
    photo: imaging.Photo, delta: Tensor, source: Source, tools: Tools, drawn: dict[int, Tensor] | None = None
) -> NDArray[np.uint8]:
    """Pixels after `delta`; the rounding draws the same numbers each time, so a change that passed passes again.

    `drawn` keeps them between calls.
    """
    seed = int(photo_generator(tools.secret, source.sha256, "rounding").integers(2**62))
    if tools.method.noise:
        generator = torch.Generator().manual_seed(seed)
        return uniform_noise(photo.pixels, tau=tools.budget.tau, generator=generator, opaque=photo.alpha)
    return apply(
        photo.pixels,
        delta,
        tau=tools.budget.tau,
        orientation=photo.orientation,
        generator=torch.Generator().manual_seed(seed),
        opaque=photo.alpha,
        drawn=drawn,
    )


def write(task: Task, delta: Tensor, tools: Tools) -> tuple[bytes, Reread, int]:
    """Encode, read again, and tell the largest level that was applied."""
    photo = task.decoded()
    pixels = _changed_pixels(photo, delta, task.source, tools)
    data = imaging.write(photo, pixels, strip=tools.strip)
    applied = linf_levels(pixels, photo.pixels)
    del pixels
    name, witnesses = task.source.name, tools.witnesses
    again = read_again(data, photo, tools.looks, name=name, witnesses=witnesses, survival=tools.survival)
    return data, again, applied


def _on_grid(photo: imaging.Photo, grid: Grid) -> Tensor:
    """(3, h, w) image that a photo comes to on the grid."""
    return to_image(resized(upright_rgb(photo), *grid.image.shape[1:]))


def _is_small(photo: imaging.Photo) -> bool:
    height, width = photo.pixels.shape[:2]
    return bool(height * width <= _CODEC_IN_LOOP)


def _with_codec(grid: Grid, photo: imaging.Photo, source: Source, tools: Tools) -> Grid:
    """A grid that sees each change as writing leaves it; for a lossless format, as rounding does."""
    drawn: dict[int, Tensor] = {}
    preview = imaging.previewer(photo)

    def written(change: Tensor) -> Tensor:
        pixels = _changed_pixels(photo, change, source, tools, drawn)
        return _on_grid(replace(photo, pixels=preview(pixels)), grid).to(change.device)

    return replace(grid, written=written)


def aware(task: Task, reread: Reread, delta: Tensor, tools: Tools) -> Grid:
    """The task's grid, knowing what writing does: at every step for small photos, for large from what `delta` became.

    `reread` is what was written.
    """
    if task.photo is None or not _is_small(task.photo):
        meant = replace(task.grid, drift=None).changed(delta)[0]
        return replace(task.grid, drift=to_image(reread.on_grid) - meant)
    return task.grid if task.lossless else _with_codec(task.grid, task.photo, task.source, tools)
