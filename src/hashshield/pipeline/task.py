"""One photo at work: what goes in and comes out, and the steps around the search that need no network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.attacks.features import Surrogate
from hashshield.attacks.goals import Goal, photo_generator
from hashshield.attacks.grid import Grid, apply_perturbation, make_grid, uniform_noise
from hashshield.attacks.masking import PerceptualMask, Spectra, perceptual_mask
from hashshield.attacks.methods import Method
from hashshield.attacks.objectives import Objective
from hashshield.attacks.presets import Preset
from hashshield.attacks.search import Execution
from hashshield.metrics.image import linf_levels
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import NetworkView, OpenModel, network_views
from hashshield.pipeline.places import PlaceCodes
from hashshield.pipeline.plan import open_photo
from hashshield.pipeline.receipt import WrittenPhoto, measured, read_written
from hashshield.pipeline.targets import CodeTarget
from hashshield.pipeline.twins import Earlier, Results, earlier_result
from hashshield.transforms import framing, pillow_view, resized, to_image
from hashshield.types import Receipt

__all__ = ["ProtectContext", "Result", "Source", "Task", "prepare", "with_writing_model", "write"]

_KEEP_DECODED = 8_000_000
"""Bytes of pixels up to which a decoded photo is kept until it is written."""
_CODEC_IN_LOOP = 1_500_000
"""Pixels up to which a later try writes and reads the photo at every step."""


@dataclass(frozen=True, slots=True)
class Source:
    """One photo's bytes, and how it is named."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    key: object = None
    """Handed back with the result."""
    place_codes: PlaceCodes | None = None
    """The place that its copy is for, with what other places have; None: no name was given."""


@dataclass(frozen=True, slots=True, eq=False)
class ProtectContext:
    """Everything the work needs but the photos."""

    models: tuple[OpenModel, ...]
    preset: Preset
    method: Method
    tau: float
    """L-infinity bound on the change, in [0, 1] units."""
    execution: Execution
    goal: Goal
    secret: bytes
    """Key of the per-photo randomness."""
    tolerance: int | None
    max_visible: float = math.inf
    """Highest visibility of a written photo that passes."""
    surrogates: tuple[Surrogate, ...] = ()
    """Networks whose features are moved before the search for the code."""
    witnesses: tuple[OpenModel, ...] = ()
    """Networks that are not searched on and only asked about results."""
    no_witness: str | None = None
    """Why there are none, where some were wanted."""
    survival: bool = False
    """Whether receipts are to hold what is left after each service."""
    strip: imaging.StripOptions = field(default_factory=imaging.StripOptions)
    lossy_formats: bool = False
    """Whether HEIC and AVIF are worked on."""
    jobs: int = 2
    results_before: Results = field(default_factory=dict)
    """Earlier runs' results: a photo with the pixels of one had only its metadata edited since, or was turned."""
    notice: Callable[[str], None] = lambda text: None
    """Told what the user should know, such as a change of device."""
    stepped: Callable[[str], None] | None = None
    """Told the name of a photo after each of its gradient steps, by any thread; None: nobody counts."""

    @property
    def promised_views(self) -> tuple[NetworkView, ...]:
        """Each network in each view that is promised."""
        return network_views(self.models, self.preset.views)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one photo; `data` is None when it could not be worked on."""

    source: Source
    data: bytes | None = None
    receipt: Receipt | None = None
    targets: tuple[CodeTarget, ...] = ()
    pixels_after: str | None = None
    steps: int = 0
    evaluations: int = 0
    """Pictures given to networks by the search."""
    seconds: float = 0.0
    reason: str | None = None
    unprotected_copies: tuple[str, ...] = ()
    links_to_owner: tuple[str, ...] = ()
    earlier_result: str | None = None
    """Pixel digest of a photo that is an earlier run's result; nothing was done to it."""
    reoriented: bool = False
    """Whether that result is shown turned."""
    orientation: int = 1
    """Which the photo was written with, 1 to 8."""


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
    earlier: Earlier | None = None
    """The earlier run's result that it is."""
    lossy_format: bool = False
    """Whether its container is one that has to be asked for."""
    surrogate_views: tuple[Tensor, ...] = ()
    surrogate_features: tuple[Tensor, ...] = ()
    """(D,) pooled features that each surrogate gives the original."""
    witness_views: tuple[Tensor, ...] = ()
    witness_bits: tuple[NDArray[np.int8], ...] = ()
    """Bits that each witness gives the original."""
    targets: tuple[CodeTarget, ...] = ()
    objectives: tuple[Objective, ...] = ()
    masking: PerceptualMask | None = None
    """Where a change is seen least, for presets that mind."""
    scale: float = 1.0
    """Photo pixels per grid pixel."""
    tries: int = 0
    steps: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    best: tuple[bytes, Receipt, WrittenPhoto] | None = None
    delta: Tensor | None = None

    def decoded(self) -> imaging.Photo:
        """The photo, decoded again where it was too large to keep."""
        return self.photo or imaging.read(self.source.data, name=self.source.name)


def prepare(source: Source, context: ProtectContext) -> Task:
    """Decode a photo and make what the search needs of it. Raises PhotoError."""
    photo = open_photo(source.data, name=source.name, lossy_formats=context.lossy_formats)
    displayed = displayed_rgb(photo)
    alpha = None if photo.alpha is None else imaging.to_display_orientation(photo.alpha, photo.orientation)
    preset = context.preset
    grid = make_grid(displayed, channels=imaging.colour_channels(photo), alpha=alpha, own_pixels=preset.own_pixels)
    if (photo.lossless or preset.sees_writing) and _is_small(photo) and not context.method.noise:
        grid = _with_codec(grid, photo, source, context)
    return Task(
        source=source,
        grid=grid,
        views=tuple(_view(displayed, grid, look) for look in context.promised_views),
        surrogate_views=tuple(_view(displayed, grid, NetworkView(each.opened)) for each in context.surrogates),
        witness_views=tuple(_view(displayed, grid, NetworkView(model)) for model in context.witnesses),
        photo=photo if photo.pixels.nbytes <= _KEEP_DECODED else None,
        lossless=photo.lossless,
        scale=min(displayed.shape[:2]) / min(grid.image.shape[1:]),
        masking=_masking(displayed, grid, preset.spectra, lossless=photo.lossless),
        pixels=photo.pixels.shape[0] * photo.pixels.shape[1],
        earlier=earlier_result(photo, context.results_before),
        lossy_format=photo.container in imaging.LOSSY_FORMATS,
    )


def _masking(
    displayed: NDArray[np.uint8], grid: Grid, spectra: Spectra | None, *, lossless: bool
) -> PerceptualMask | None:
    if spectra is None:
        return None
    height, width = grid.image.shape[1:]
    return perceptual_mask(displayed, height, width, spectra.of(lossless=lossless, enlarged=grid.enlarged))


def _view(displayed: NDArray[np.uint8], grid: Grid, network_view: NetworkView) -> Tensor:
    """A view of the original; out of the grid where both resize alike, which saves a pass over the photo."""
    size = network_view.model.card.input
    goal, (rows, columns) = framing(network_view.view, size, displayed.shape[0], displayed.shape[1])
    if goal != grid.image.shape[1:]:
        return pillow_view(displayed, size, network_view.view)
    return grid.image[:, rows, columns]


def _changed_pixels(
    photo: imaging.Photo,
    delta: Tensor,
    source: Source,
    context: ProtectContext,
    noise_cache: dict[int, Tensor] | None = None,
) -> NDArray[np.uint8]:
    """Pixels after `delta`; the rounding draws the same numbers each time, so a change that passed passes again.

    `drawn` keeps them between calls.
    """
    seed = int(photo_generator(context.secret, source.sha256, "rounding").integers(2**62))
    if context.method.noise:
        generator = torch.Generator().manual_seed(seed)
        return uniform_noise(photo.pixels, tau=context.tau, channels=len(delta), generator=generator, alpha=photo.alpha)
    return apply_perturbation(
        photo.pixels,
        delta,
        tau=context.tau,
        orientation=photo.orientation,
        generator=torch.Generator().manual_seed(seed),
        alpha=photo.alpha,
        noise_cache=noise_cache,
    )


def write(task: Task, delta: Tensor, context: ProtectContext) -> tuple[bytes, WrittenPhoto, int]:
    """Encode, read again, and tell the largest level that was applied."""
    photo = task.decoded()
    pixels = _changed_pixels(photo, delta, task.source, context)
    data = imaging.write(photo, pixels, strip=context.strip)
    applied = linf_levels(pixels, photo.pixels)
    written = read_written(data, photo, pixels, name=task.source.name)
    del pixels
    again = measured(
        written,
        photo,
        context.promised_views,
        surrogates=[each.opened for each in context.surrogates],
        witnesses=context.witnesses,
        survival=context.survival,
    )
    return data, again, applied


def _on_grid(photo: imaging.Photo, grid: Grid) -> Tensor:
    """(3, h, w) image that a photo comes to on the grid."""
    return to_image(resized(displayed_rgb(photo), *grid.image.shape[1:]))


def _is_small(photo: imaging.Photo) -> bool:
    height, width = photo.pixels.shape[:2]
    return bool(height * width <= _CODEC_IN_LOOP)


def _with_codec(grid: Grid, photo: imaging.Photo, source: Source, context: ProtectContext) -> Grid:
    """A grid that sees each change as writing leaves it; for a lossless format, as rounding does."""
    noise_cache: dict[int, Tensor] = {}
    preview = imaging.previewer(photo)

    def written(change: Tensor) -> Tensor:
        pixels = _changed_pixels(photo, change, source, context, noise_cache)
        return _on_grid(replace(photo, pixels=preview(pixels)), grid).to(change.device, non_blocking=True)

    return replace(grid, written=written)


def with_writing_model(task: Task, written_photo: WrittenPhoto, delta: Tensor, context: ProtectContext) -> Grid:
    """The task's grid, knowing what writing does: at every step for small photos, for large from what `delta` became.

    `reread` is what was written.
    """
    if task.photo is None or not _is_small(task.photo):
        intended = replace(task.grid, drift=None).changed(delta)[0]
        return replace(task.grid, drift=to_image(written_photo.on_grid) - intended)
    return task.grid if task.lossless else _with_codec(task.grid, task.photo, task.source, context)
