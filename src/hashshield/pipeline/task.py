"""One photo in `pipeline.work`: its source, task and result, and the steps around the search: decode and write."""

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
"""Most bytes of pixels of a decoded photo that stays in memory until it is written."""
_CODEC_IN_LOOP = 1_500_000
"""Most pixels of a photo that is encoded and decoded at every step; see `_with_codec`."""


@dataclass(frozen=True, slots=True)
class Source:
    """One photo's bytes and name."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    key: object = None
    """The caller's identifier, returned with the result."""
    place_codes: PlaceCodes | None = None
    """The place that the copy is for, with the codes of copies for other places; None: no place was named."""


@dataclass(frozen=True, slots=True, eq=False)
class ProtectContext:
    """Everything that `work` needs besides the photos."""

    models: tuple[OpenModel, ...]
    preset: Preset
    method: Method
    tau: float
    """L-infinity bound on the change, in [0, 1] units."""
    execution: Execution
    goal: Goal
    secret: bytes
    """Key from which each photo's randomness is derived."""
    tolerance: int | None
    """Bits that may miss the target in the written file; None: the default of `targets.tolerance_for`."""
    max_visible: float = math.inf
    """The ceiling: highest visibility of a written photo that passes."""
    surrogates: tuple[Surrogate, ...] = ()
    """Networks whose features are moved before the code search."""
    witnesses: tuple[OpenModel, ...] = ()
    """Networks that are only asked about results."""
    no_witness: str | None = None
    """Why there is no witness, if one was wanted."""
    survival: bool = False
    """Whether receipts include the codes after every service."""
    strip: imaging.StripOptions = field(default_factory=imaging.StripOptions)
    lossy_formats: bool = False
    """Whether HEIC and AVIF are accepted."""
    jobs: int = 2
    """Threads that decode and encode."""
    results_before: Results = field(default_factory=dict)
    """Results of earlier runs, to recognise photos whose metadata or orientation was edited since."""
    notice: Callable[[str], None] = lambda text: None
    """Called with messages for the user, such as a change of device."""
    stepped: Callable[[str], None] | None = None
    """Called with a photo's name after each of its gradient steps, from any thread."""

    @property
    def promised_views(self) -> tuple[NetworkView, ...]:
        """Each network in each view of the preset."""
        return network_views(self.models, self.preset.views)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome for one photo. `data` is None if it could not be processed or is an earlier result."""

    source: Source
    data: bytes | None = None
    receipt: Receipt | None = None
    targets: tuple[CodeTarget, ...] = ()
    pixels_after: str | None = None
    steps: int = 0
    evaluations: int = 0
    """Images passed to networks by the search."""
    seconds: float = 0.0
    """Time from entering to leaving the search, over all tries."""
    reason: str | None = None
    """Why the photo could not be processed."""
    unprotected_copies: tuple[str, ...] = ()
    """Copies inside the file, such as previews, that still show the original."""
    links_to_owner: tuple[str, ...] = ()
    """Metadata that can link the photo to its owner."""
    earlier_result: str | None = None
    """Pixel digest, if the photo is the result of an earlier run; it was left unchanged."""
    reoriented: bool = False
    """Whether that result has been rotated or mirrored since."""
    orientation: int = 1
    """EXIF orientation of the written photo, 1 to 8."""


@dataclass(eq=False)
class Task:
    """The state of one photo in progress."""

    source: Source
    grid: Grid
    views: tuple[Tensor, ...]
    """The original, (3, s, s), in each promised view; dropped once it is hashed."""
    photo: imaging.Photo | None
    """The decoded photo; None if it is too large to keep."""
    lossless: bool
    pixels: int
    """Number of pixels of the photo."""
    earlier: Earlier | None = None
    """The result of an earlier run, if the photo is one."""
    lossy_format: bool = False
    """Whether it is HEIC or AVIF."""
    surrogate_views: tuple[Tensor, ...] = ()
    surrogate_features: tuple[Tensor, ...] = ()
    """(D,) features of the original on each surrogate."""
    witness_views: tuple[Tensor, ...] = ()
    witness_bits: tuple[NDArray[np.int8], ...] = ()
    """(K,) bits of the original on each witness."""
    targets: tuple[CodeTarget, ...] = ()
    """One per promised view, like `objectives`."""
    objectives: tuple[Objective, ...] = ()
    masking: PerceptualMask | None = None
    """Where a change shows least; None if the preset has no spectra."""
    scale: float = 1.0
    """Photo pixels per grid pixel."""
    tries: int = 0
    """Tries that are finished."""
    steps: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    best: tuple[bytes, Receipt, WrittenPhoto] | None = None
    """The best written photo so far."""
    delta: Tensor | None = None
    """(C, h, w) change of the last try."""

    def decoded(self) -> imaging.Photo:
        """Return the decoded photo; it is decoded again if it was too large to keep."""
        return self.photo or imaging.read(self.source.data, name=self.source.name)


def prepare(source: Source, context: ProtectContext) -> Task:
    """Decode a photo and return its task, with grid, views and mask but without targets. Raises PhotoError."""
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
    """Return a view of the original, (3, s, s); cut from the grid if both have the same size, which saves a resize."""
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
    """Return the photo's stored pixels after `delta`.

    Rounding uses the same random numbers every time, so that a change gives the same pixels in search and file.
    `noise_cache` keeps these numbers between calls.
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
    """Encode the photo with `delta`; return the bytes, what was measured on them, and the largest change in levels.

    Raises BrokenPhotoError or EncodingError if the bytes do not hold the intended photo.
    """
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
    """Return the photo resized to the grid, (3, h, w) in [0, 1]."""
    return to_image(resized(displayed_rgb(photo), *grid.image.shape[1:]))


def _is_small(photo: imaging.Photo) -> bool:
    height, width = photo.pixels.shape[:2]
    return bool(height * width <= _CODEC_IN_LOOP)


def _with_codec(grid: Grid, photo: imaging.Photo, source: Source, context: ProtectContext) -> Grid:
    """Return the grid with a `written` that rounds and encodes the photo; a lossless format only rounds."""
    noise_cache: dict[int, Tensor] = {}
    preview = imaging.previewer(photo)

    def written(change: Tensor) -> Tensor:
        pixels = _changed_pixels(photo, change, source, context, noise_cache)
        return _on_grid(replace(photo, pixels=preview(pixels)), grid).to(change.device, non_blocking=True)

    return replace(grid, written=written)


def with_writing_model(task: Task, written_photo: WrittenPhoto, delta: Tensor, context: ProtectContext) -> Grid:
    """Return the task's grid with a model of writing, for the next try.

    A small photo is encoded at every step. For a large one the difference that writing `delta` made, measured on
    `written_photo`, is added as drift.
    """
    if task.photo is None or not _is_small(task.photo):
        intended = replace(task.grid, drift=None).changed(delta)[0]
        return replace(task.grid, drift=to_image(written_photo.on_grid) - intended)
    return task.grid if task.lossless else _with_codec(task.grid, task.photo, task.source, context)
