"""Lossy codecs as views: what a file written by Pillow at some quality shows, with a gradient."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hashshield.types import View
from hashshield.views.geometry import to_image

__all__ = ["jpeg", "webp"]


_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
"""Sides that the encoders take, in pixels; what is longer is not coded, here as little as by a service."""


def jpeg(quality: int) -> View:
    """Written as JPEG of that quality (1 to 100) with Pillow's other defaults, and read again.

    Forwards that is what Pillow does, backwards the identity, which is also what rounding the coefficients of an
    orthonormal transform straight through comes to.
    """
    return _through("JPEG", quality=quality)


def webp(quality: int) -> View:
    """Written as lossy WebP of that quality (0 to 100) and read again; differentiable as `jpeg` is."""
    return _through("WEBP", quality=quality)


def _through(container: str, **options: int) -> View:
    def view(images: Tensor) -> Tensor:
        seen: Tensor = _Coded.apply(images, container, options)
        return seen

    return view


class _Coded(torch.autograd.Function):
    """(N, 3, H, W) in [0, 1] through a codec; the gradient passes as if it were not there."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, container: str, options: dict[str, int]) -> Tensor:
        if max(images.shape[-2:]) > _LONGEST[container]:
            return images.clamp(0, 1)
        pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        coded = [_decoded(Image.fromarray(photo), container, options) for photo in pixels]
        return torch.stack(coded).to(images.device, images.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


def _decoded(photo: Image.Image, container: str, options: dict[str, int]) -> Tensor:
    with BytesIO() as out:
        photo.save(out, container, **options)
        return to_image(np.asarray(Image.open(out, formats=[container]).convert("RGB")))
