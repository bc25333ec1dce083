"""Proof on the written bytes: decode them, hash again, measure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hashshield import imaging
from hashshield.attacks.grid import grid_size
from hashshield.errors import BrokenPhotoError
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.models.hash_files import shared_codes, upright_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.aims import Mark, measure
from hashshield.pipeline.witness import testify
from hashshield.types import Receipt, SurvivalRow
from hashshield.views import CARD, framing, resized, to_image

__all__ = ["CARD_VIEW", "JPEG_Q75", "Look", "Reread", "judge", "looks_of", "read_again", "tolerance_for"]

CARD_VIEW = CARD
JPEG_Q75 = "jpeg q75"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A network and the view in which it sees a photo."""

    model: OpenModel
    view: str = CARD


def looks_of(models: Sequence[OpenModel], views: Sequence[str]) -> tuple[Look, ...]:
    """Every network in every view, the views of one network together."""
    return tuple(Look(model, view) for model in models for view in views)


@dataclass(frozen=True, slots=True, eq=False)
class Reread:
    """What can be measured of written bytes without a network."""

    views: tuple[Tensor, ...]
    """Per network and promised view of it: (3, h, w), as `Look` orders them."""
    survival: tuple[tuple[str, tuple[Tensor, ...]], ...]
    """Transform name and its views, as `views`."""
    witness_views: tuple[Tensor, ...]
    """The card's view of each witness."""
    on_grid: Pixels
    """(h, w, 3): what the written photo comes to on the search's grid."""
    psnr_db: float
    ssim: float
    linf_levels_written: int
    pixels_after: str
    """Digest of the decoded pixels."""
    unprotected_copies: tuple[str, ...]
    links_to_owner: tuple[str, ...]


def read_again(
    data: bytes,
    original: imaging.Photo,
    looks: Sequence[Look],
    *,
    name: str,
    witnesses: Sequence[OpenModel] = (),
) -> Reread:
    """Decode what would be written and compare it with the decoded original.

    Raises BrokenPhotoError when the bytes are not the same photo in shape, orientation and transparency.
    """
    photo = imaging.read(data, name=name)
    same_alpha = (
        photo.alpha is None
        if original.alpha is None
        else photo.alpha is not None and np.array_equal(photo.alpha, original.alpha)
    )
    if photo.pixels.shape != original.pixels.shape or photo.orientation != original.orientation or not same_alpha:
        raise BrokenPhotoError(f"{name}: encoding changed size, orientation or transparency; the file was left alone")
    # One image for all that is made of the photo, and no arrays: each would be one more copy of it.
    shown = Image.fromarray(upright_rgb(photo))
    on_grid = resized(shown, *grid_size(shown.height, shown.width))
    views, witness_views = _views(shown, looks), _views(shown, [Look(model) for model in witnesses])
    coded = _jpeg(shown, 75)
    del shown
    return Reread(
        views=views,
        survival=((JPEG_Q75, _views(Image.open(io.BytesIO(coded), formats=["JPEG"]), looks)),),
        witness_views=witness_views,
        on_grid=on_grid,
        psnr_db=psnr_db(photo.pixels, original.pixels),
        ssim=ssim(photo.pixels, original.pixels),
        linf_levels_written=linf_levels(photo.pixels, original.pixels),
        pixels_after=imaging.pixel_digest(photo),
        unprotected_copies=photo.unprotected_copies,
        links_to_owner=photo.links_to_owner,
    )


@torch.inference_mode()
def judge(
    reread: Reread,
    marks: Sequence[Mark],
    looks: Sequence[Look],
    *,
    linf_applied: int,
    tolerance: int | None,
    lossless: bool,
    witnesses: Sequence[tuple[NDArray[np.int8], OpenModel]] = (),
) -> Receipt:
    """Hash what was read again and hold it against the marks, one per look; networks in float32.

    Each witness comes with the bits that it gave the original.
    """
    rows = [
        measure(mark, code, look.model.anchors, look.view)
        for mark, look, code in zip(marks, looks, _codes(reread.views, looks), strict=True)
    ]
    survival = []
    for transform, views in reread.survival:
        for mark, look, code in zip(marks, looks, _codes(views, looks), strict=True):
            row = measure(mark, code, look.model.anchors, look.view)
            passed = mark.passed(row, tolerance_for(tolerance, row.bits, lossless=False))
            survival.append(
                SurvivalRow(transform, row.model, row.view, row.distance_from_original, row.distance_to_goal, passed)
            )
    return Receipt(
        passed=all(
            m.passed(r, tolerance_for(tolerance, r.bits, lossless=lossless)) for m, r in zip(marks, rows, strict=True)
        ),
        codes=tuple(rows),
        survival=tuple(survival),
        psnr_db=reread.psnr_db,
        ssim=reread.ssim,
        linf_levels=linf_applied,
        linf_levels_written=reread.linf_levels_written,
        witness=tuple(
            testify(own, model, view, CARD_VIEW)
            for (own, model), view in zip(witnesses, reread.witness_views, strict=True)
        ),
    )


def tolerance_for(asked: int | None, bits: int, *, lossless: bool) -> int:
    """Bits a wanted code may be off: what was asked, else 0 when lossless and a sixteenth of the code in JPEG."""
    return asked if asked is not None else 0 if lossless else bits // 16


def _codes(views: Sequence[Tensor], looks: Sequence[Look]) -> list[NDArray[np.float32]]:
    found = []
    for view, look in zip(views, looks, strict=True):
        network = look.model.model
        image = view[None].to(network.mean.device)
        found.append(shared_codes([network], image)[0].code[0].float().cpu().numpy())
    return found


def _views(shown: Image.Image, looks: Sequence[Look]) -> tuple[Tensor, ...]:
    """What each look sees; what several have in common is made once."""
    small = cache(lambda height, width: resized(shown, height, width))
    framings = [framing(look.view, look.model.card.input, shown.height, shown.width) for look in looks]
    return tuple(to_image(small(*goal)[crop]) for goal, crop in framings)


def _jpeg(shown: Image.Image, quality: int) -> bytes:
    """Encode as a service would: Pillow's defaults at that quality."""
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
