"""Receipts: decode the written bytes, hash and measure them, also after the transforms that services apply.

`lowered` brings a photo above the ceiling below it with a part of its change, if that still meets the goal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.attacks.grid import grid_size
from hashshield.errors import BrokenPhotoError, EncodingError
from hashshield.metrics.image import linf_levels, perceptual_rows, psnr_db, ssim
from hashshield.metrics.visibility import visibility
from hashshield.models.device import AGREEMENT
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import Hashed, NetworkView, OpenModel, distinct_models, network_views, views_of
from hashshield.pipeline.places import PlaceCodes
from hashshield.pipeline.request import witness_row
from hashshield.pipeline.targets import CodeTarget, feature_cosine, measure, tolerance_for
from hashshield.transforms import CARD, SQUASH, resized
from hashshield.transforms.pillow import JPEG_Q75, SERVICES, Transform
from hashshield.types import FeatureRow, PerceptualRow, PlaceRow, Receipt, SurvivalRow

__all__ = [
    "CARD_VIEW",
    "Served",
    "WrittenPhoto",
    "build_receipt",
    "card_views",
    "codes_of",
    "lowered",
    "measure_written",
    "measured",
    "read_written",
    "serve",
    "survival_rows",
    "visibility_of",
]


CARD_VIEW = CARD


class Served(NamedTuple):
    """The networks' views of a photo after one service's transform."""

    service: Transform
    views: tuple[Tensor, ...]
    """Per model, (3, h, w) in [0, 1]; empty if the service would refuse the photo."""
    reason: str | None
    """Why the service would refuse it; None if it would not."""


def serve(
    displayed: Image.Image, models: Sequence[OpenModel], services: Sequence[Transform] = SERVICES
) -> tuple[Served, ...]:
    """Return the views of an upright RGB image after each service, for each model.

    Services are applied one at a time, because each makes another copy of the photo.
    """
    found = []
    for service in services:
        reason = service.refused(*displayed.size)
        views: tuple[Tensor, ...] = ()
        if reason is None:
            image = service.done(displayed)
            views = views_of(image, network_views(models, [SQUASH if service.squashed else CARD]))
        found.append(Served(service, views, reason))
    return tuple(found)


def survival_rows(
    transformed: Sequence[Served], targets: Sequence[CodeTarget], models: Sequence[OpenModel], *, tolerance: int | None
) -> tuple[SurvivalRow, ...]:
    """Hash the views after each service and compare them with the targets; return a row per service and model.

    A service that would refuse the photo has rows with its reason. A view without a target of its own is compared with
    the target of the `card` view. `tolerance` is as in `build_receipt`.
    """
    rows = []
    by_look = {(target.model, target.view): target for target in targets}
    for service, views, reason in transformed:
        view = SQUASH if service.squashed else CARD_VIEW
        if reason is not None:
            rows += [SurvivalRow(service.name, model.name, view, reason=reason) for model in models]
            continue
        for model, hashed in zip(models, hashes_of(views, models), strict=True):
            target = by_look.get((model.name, view)) or by_look[model.name, CARD]
            # With the features, because a photo that encoding brings back above the card's cosine is found again.
            found = measure(target, hashed.code, model.anchors, view, card=model.card, features=hashed.features)
            passed = target.passed(found, tolerance_for(tolerance, found.bits, lossless=False))
            distances = found.distance_from_original, found.distance_to_goal
            rows.append(SurvivalRow(service.name, target.model, view, *distances, passed))
    return tuple(rows)


def card_views(displayed: Image.Image, models: Sequence[OpenModel]) -> tuple[Tensor, ...]:
    """Return the (3, h, w) `card` view for each model; resized copies that several need are computed once."""
    return views_of(displayed, network_views(models))


def codes_of(views: Sequence[Tensor], models: Sequence[OpenModel]) -> list[NDArray[np.float32]]:
    """Return the (K,) codes of one view per model."""
    return [found.code for found in hashes_of(views, models)]


def hashes_of(views: Sequence[Tensor], models: Sequence[OpenModel]) -> list[Hashed]:
    """Return code and features of one view per model; a GPU hashes all views of one network in a batch."""
    hashes: dict[int, Hashed] = {}
    for model in {id(each): each for each in models}.values():
        places = [place for place, each in enumerate(models) if each is model]
        if model.device.type == "cpu":
            hashes |= {place: model.hash_view(views[place]) for place in places}
        else:
            hashes |= dict(zip(places, model.hash_views([views[place] for place in places]), strict=True))
    return [hashes[place] for place in range(len(models))]


def _doubt(model: OpenModel) -> float:
    """Return the largest magnitude of a code's entry whose sign may differ on the CPU; 0 if the model runs there."""
    return 0.0 if model.device.type == "cpu" else AGREEMENT


@dataclass(frozen=True, slots=True, eq=False)
class WrittenPhoto:
    """Everything measured on written bytes without a network, and the views to hash."""

    views: tuple[Tensor, ...]
    """Per promised view, (3, h, w) in [0, 1]."""
    transformed: tuple[Served, ...]
    perceptual: tuple[PerceptualRow, ...]
    surrogate_views: tuple[Tensor, ...]
    """Per surrogate, its `card` view."""
    witness_views: tuple[Tensor, ...]
    """Per witness, its `card` view."""
    on_grid: Pixels
    """(h, w, 3): the written photo, resized to the search's grid."""
    psnr_db: float
    ssim: float
    visibility: float
    """Visibility of the change; see `hashshield.metrics.visibility`."""
    linf_levels_written: int
    pixels_after: str
    """Digest of the decoded pixels."""
    orientation: int
    unprotected_copies: tuple[str, ...]
    links_to_owner: tuple[str, ...]


def measure_written(
    data: bytes,
    original: imaging.Photo,
    promised_views: Sequence[NetworkView],
    *,
    name: str,
    witnesses: Sequence[OpenModel] = (),
    survival: bool = False,
) -> WrittenPhoto:
    """Decode bytes to be written and compare them with the decoded original; with `survival` also after all services.

    Raises BrokenPhotoError if the bytes differ from the original in size, orientation or transparency.
    """
    photo = read_written(data, original, name=name)
    return measured(photo, original, promised_views, witnesses=witnesses, survival=survival)


def read_written(data: bytes, original: imaging.Photo, intended: Pixels | None = None, *, name: str) -> imaging.Photo:
    """Decode bytes to be written, and check that they hold the original with its `intended` pixels (None: any).

    Raises BrokenPhotoError if they differ from the original in size, orientation or transparency, and EncodingError if
    the pixels differ from the intended ones by more than encoding explains.
    """
    photo = imaging.read(data, name=name)
    same_alpha = (
        photo.alpha is None
        if original.alpha is None
        else photo.alpha is not None and np.array_equal(photo.alpha, original.alpha)
    )
    if photo.pixels.shape != original.pixels.shape or photo.orientation != original.orientation or not same_alpha:
        raise BrokenPhotoError(f"{name}: encoding changed size, orientation or transparency; the file was left alone")
    wrong = None if intended is None else imaging.departure(original, intended, photo)
    if wrong is not None:
        raise EncodingError(
            f"{name}: internal error: the written picture differs from the intended one: {wrong}; the file was left "
            "alone, please report it"
        )
    return photo


def measured(
    photo: imaging.Photo,
    original: imaging.Photo,
    promised_views: Sequence[NetworkView],
    *,
    surrogates: Sequence[OpenModel] = (),
    witnesses: Sequence[OpenModel] = (),
    survival: bool = False,
) -> WrittenPhoto:
    """Compare a written and decoded photo with its original; with `survival` also after all services."""
    # All views come from one Pillow image: an array would be another copy of the photo.
    displayed = Image.fromarray(displayed_rgb(photo))
    on_grid = resized(displayed, *grid_size(displayed.height, displayed.width))
    views, surrogate_views, witness_views = (
        views_of(displayed, seen) for seen in (promised_views, network_views(surrogates), network_views(witnesses))
    )
    transformed = serve(displayed, distinct_models(promised_views), SERVICES if survival else (JPEG_Q75,))
    perceptual = perceptual_rows(Image.fromarray(displayed_rgb(original)), displayed) if survival else ()
    del displayed
    return WrittenPhoto(
        views=views,
        transformed=transformed,
        perceptual=perceptual,
        surrogate_views=surrogate_views,
        witness_views=witness_views,
        on_grid=on_grid,
        psnr_db=psnr_db(photo.pixels, original.pixels),
        ssim=ssim(photo.pixels, original.pixels),
        visibility=visibility_of(original, photo),
        linf_levels_written=linf_levels(photo.pixels, original.pixels),
        pixels_after=imaging.pixel_digest(photo),
        orientation=photo.orientation,
        unprotected_copies=photo.unprotected_copies,
        links_to_owner=photo.links_to_owner,
    )


def visibility_of(original: imaging.Photo, changed: imaging.Photo) -> float:
    """Return the visibility of the change between two photos of the same size; transparent ones are shown on white."""
    if original.alpha is None and original.pixels.shape[2] in (1, 3):
        return visibility(original.pixels, changed.pixels)
    return visibility(displayed_rgb(original), displayed_rgb(changed))


@torch.inference_mode()
def build_receipt(
    written_photo: WrittenPhoto,
    targets: Sequence[CodeTarget],
    promised_views: Sequence[NetworkView],
    *,
    linf_applied: int,
    tolerance: int | None,
    lossless: bool,
    max_visible: float = math.inf,
    surrogates: Sequence[tuple[Tensor, OpenModel]] = (),
    witnesses: Sequence[tuple[NDArray[np.int8], OpenModel]] = (),
    no_witness: str | None = None,
    place_codes: PlaceCodes | None = None,
) -> Receipt:
    """Hash the written photo in float32 and compare it with `targets`, one per promised view.

    It passes if it meets the goal with a visibility of at most `max_visible`. `tolerance` is the number of bits that
    may miss the target; None is the default of `tolerance_for`. Each surrogate is paired with the original's (D,)
    features, each witness with the original's (K,) bits. `no_witness` says why there is none. `place_codes` are the
    codes of other places' copies to compare with.
    """
    models = distinct_models(promised_views)
    looks = [look.model for look in promised_views]
    hashes = hashes_of(written_photo.views, looks)
    seen = {id(look.model): found for look, found in zip(promised_views, hashes, strict=True) if look.view == CARD}
    rows = [
        measure(target, found.code, model.anchors, target.view, card=model.card, features=found.features)
        for target, model, found in zip(targets, looks, hashes, strict=True)
    ]
    reached = all(
        not target.is_copy(row)
        and target.passed_within(found.code, tolerance_for(tolerance, row.bits, lossless=lossless), _doubt(model))
        for target, model, found, row in zip(targets, looks, hashes, rows, strict=True)
    )
    return Receipt(
        passed=reached and written_photo.visibility <= max_visible,
        reached=reached,
        visibility=written_photo.visibility,
        codes=tuple(rows),
        survival=survival_rows(written_photo.transformed, targets, models, tolerance=tolerance),
        perceptual=written_photo.perceptual,
        psnr_db=written_photo.psnr_db,
        ssim=written_photo.ssim,
        linf_levels=linf_applied,
        linf_levels_written=written_photo.linf_levels_written,
        no_witness=no_witness,
        places=() if place_codes is None else tuple(_place_rows(place_codes, targets, hashes)),
        surrogates=tuple(
            # A surrogate that is searched on as well has been hashed in its card view already.
            FeatureRow(model.name, feature_cosine((seen.get(id(model)) or model.hash_view(view)).features, features))
            for (features, model), view in zip(surrogates, written_photo.surrogate_views, strict=True)
        ),
        witness=tuple(
            witness_row(original_bits, model, view, CARD_VIEW)
            for (original_bits, model), view in zip(witnesses, written_photo.witness_views, strict=True)
        ),
    )


def _place_rows(place_codes: PlaceCodes, targets: Sequence[CodeTarget], hashes: Sequence[Hashed]) -> Iterator[PlaceRow]:
    """Yield, per network view, how far the written photo's code is from the nearest code of another place."""
    for target, found in zip(targets, hashes, strict=True):
        nearest = place_codes.nearest_other(target.model, found.bits)
        if nearest is not None:
            yield PlaceRow(target.model, len(found.bits), target.view, nearest)


_WRITES = 4
"""Most parts that are tried; each is written, decoded and hashed."""
_ROOM = 0.95
"""A part whose visibility is at least this share of the ceiling is not enlarged if it misses the goal."""


class Judged(Protocol):
    """Written bytes with their receipt."""

    @property
    def receipt(self) -> Receipt | None:
        """The measurements of the bytes."""
        ...


W = TypeVar("W", bound=Judged)


def lowered(first: W, ceiling: float, write: Callable[[float], W]) -> W:
    """Return the photo with a part of its change that passes, if `first` meets the goal above the ceiling.

    If `first` passes, misses the goal, or no part passes, return `first`. `write` writes and measures the photo with a
    share of the change, 0 < share < 1. Visibility grows nearly in proportion to the share, but unevenly because of
    encoding, so the share is interpolated between one below the ceiling and one above it.
    """
    receipt = _of(first)
    if receipt.passed or not receipt.reached:
        return first
    below, above = (0.0, 0.0), (1.0, receipt.visibility)
    for _ in range(_WRITES):
        rise = (ceiling - below[1]) / (above[1] - below[1])
        share = below[0] + (above[0] - below[0]) * min(max(0.98 * rise, 0.05), 0.95)
        part = write(share)
        found = _of(part)
        if found.passed:
            return part
        if found.visibility <= ceiling:
            if found.visibility >= _ROOM * ceiling:
                break
            below = share, found.visibility
        elif found.reached:
            above = share, found.visibility
        else:
            break
        if above[1] <= below[1]:
            break
    return first


def _of(judged: Judged) -> Receipt:
    assert judged.receipt is not None
    return judged.receipt
