"""Proof on the written bytes: decode them, hash again, measure, also after what services do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from hashshield.models.hash_files import displayed_rgb
from hashshield.models.load import NetworkView, OpenModel, distinct_models, network_views, views_of
from hashshield.pipeline.networks import witness_row
from hashshield.pipeline.targets import CodeTarget, measure, tolerance_for
from hashshield.transforms import CARD, SQUASH, resized
from hashshield.transforms.pillow import JPEG_Q75, SERVICES, Transform
from hashshield.types import PerceptualRow, Receipt, SurvivalRow

__all__ = [
    "CARD_VIEW",
    "Served",
    "WrittenPhoto",
    "build_receipt",
    "card_views",
    "codes_of",
    "measure_written",
    "measured",
    "read_written",
    "serve",
    "survival_rows",
]

CARD_VIEW = CARD


class Served(NamedTuple):
    """What networks get to see of a photo after one service."""

    service: Transform
    views: tuple[Tensor, ...]
    """Per model, (3, h, w) in [0, 1]; empty where the service does not apply."""
    reason: str | None
    """Why it does not."""


def serve(displayed: Image.Image, models: Sequence[OpenModel], *, every: bool) -> tuple[Served, ...]:
    """What each service makes of an upright RGB image, for each model; all services, or only JPEG q75.

    One after the other, because each is one more copy of the photo.
    """
    found = []
    for service in SERVICES if every else (JPEG_Q75,):
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
    """Hash what services left and hold it against the marks; a service that does not apply has rows too.

    A view without a target of its own is held against that of the card's.
    """
    rows = []
    by_look = {(target.model, target.view): target for target in targets}
    for service, views, reason in transformed:
        view = SQUASH if service.squashed else CARD_VIEW
        if reason is not None:
            rows += [SurvivalRow(service.name, model.name, view, reason=reason) for model in models]
            continue
        for model, code in zip(models, codes_of(views, models), strict=True):
            target = by_look.get((model.name, view)) or by_look[model.name, CARD]
            found = measure(target, code, model.anchors, view)
            passed = target.passed(found, tolerance_for(tolerance, found.bits, lossless=False))
            distances = found.distance_from_original, found.distance_to_goal
            rows.append(SurvivalRow(service.name, target.model, view, *distances, passed))
    return tuple(rows)


def card_views(displayed: Image.Image, models: Sequence[OpenModel]) -> tuple[Tensor, ...]:
    """The card's view for each model; what several have in common is made once."""
    return views_of(displayed, network_views(models))


def codes_of(views: Sequence[Tensor], models: Sequence[OpenModel]) -> list[NDArray[np.float32]]:
    """Relaxed codes (K,), one per model and its view."""
    return [model.hash_view(view).code for view, model in zip(views, models, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class WrittenPhoto:
    """What can be measured of written bytes without a network."""

    views: tuple[Tensor, ...]
    """Per look, (3, h, w)."""
    transformed: tuple[Served, ...]
    perceptual: tuple[PerceptualRow, ...]
    witness_views: tuple[Tensor, ...]
    """The card's view of each witness."""
    on_grid: Pixels
    """(h, w, 3): what the written photo comes to on the search's grid."""
    psnr_db: float
    ssim: float
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
    """Decode what would be written and compare it with the decoded original; with `survival` after all services.

    Raises BrokenPhotoError when the bytes are not the same photo in shape, orientation and transparency.
    """
    photo = read_written(data, original, name=name)
    return measured(photo, original, promised_views, witnesses=witnesses, survival=survival)


def read_written(data: bytes, original: imaging.Photo, intended: Pixels | None = None, *, name: str) -> imaging.Photo:
    """Decode what would be written, and refuse what is not the original with its `intended` pixels (None: any).

    Raises BrokenPhotoError when the bytes are not the same photo in shape, orientation and transparency, and
    EncodingError when the picture is further from the meant one than its coding explains.
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
            f"{name}: internal error: the written picture is not the meant one: {wrong}; the file was left alone, "
            "please report it"
        )
    return photo


def measured(
    photo: imaging.Photo,
    original: imaging.Photo,
    promised_views: Sequence[NetworkView],
    *,
    witnesses: Sequence[OpenModel] = (),
    survival: bool = False,
) -> WrittenPhoto:
    """Compare a photo that was written and read again with its original; with `survival` after all services."""
    # One image for all that is made of the photo, and no arrays: each would be one more copy of it.
    displayed = Image.fromarray(displayed_rgb(photo))
    on_grid = resized(displayed, *grid_size(displayed.height, displayed.width))
    views, witness_views = views_of(displayed, promised_views), views_of(displayed, network_views(witnesses))
    transformed = serve(displayed, distinct_models(promised_views), every=survival)
    perceptual = perceptual_rows(Image.fromarray(displayed_rgb(original)), displayed) if survival else ()
    del displayed
    return WrittenPhoto(
        views=views,
        transformed=transformed,
        perceptual=perceptual,
        witness_views=witness_views,
        on_grid=on_grid,
        psnr_db=psnr_db(photo.pixels, original.pixels),
        ssim=ssim(photo.pixels, original.pixels),
        linf_levels_written=linf_levels(photo.pixels, original.pixels),
        pixels_after=imaging.pixel_digest(photo),
        orientation=photo.orientation,
        unprotected_copies=photo.unprotected_copies,
        links_to_owner=photo.links_to_owner,
    )


@torch.inference_mode()
def build_receipt(
    written_photo: WrittenPhoto,
    targets: Sequence[CodeTarget],
    promised_views: Sequence[NetworkView],
    *,
    linf_applied: int,
    tolerance: int | None,
    lossless: bool,
    witnesses: Sequence[tuple[NDArray[np.int8], OpenModel]] = (),
) -> Receipt:
    """Hash what was read again and hold it against the marks, one per look; networks in float32.

    Each witness comes with the bits that it gave the original.
    """
    models = distinct_models(promised_views)
    rows = [
        measure(target, code, look.model.anchors, look.view)
        for target, look, code in zip(
            targets, promised_views, codes_of(written_photo.views, [look.model for look in promised_views]), strict=True
        )
    ]
    return Receipt(
        passed=all(
            m.passed(r, tolerance_for(tolerance, r.bits, lossless=lossless)) for m, r in zip(targets, rows, strict=True)
        ),
        codes=tuple(rows),
        survival=survival_rows(written_photo.transformed, targets, models, tolerance=tolerance),
        perceptual=written_photo.perceptual,
        psnr_db=written_photo.psnr_db,
        ssim=written_photo.ssim,
        linf_levels=linf_applied,
        linf_levels_written=written_photo.linf_levels_written,
        witness=tuple(
            witness_row(original_bits, model, view, CARD_VIEW)
            for (original_bits, model), view in zip(witnesses, written_photo.witness_views, strict=True)
        ),
    )
