"""Images for training: features computed once, or augmented batches decoded ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.checkpoints.card import Input
from hashshield.models.hash_files import upright_rgb, view_batches
from hashshield.models.hashing import HashNet
from hashshield.views import pillow_view, resized, short_side, to_image

__all__ = ["epoch_batches", "view_features"]


@torch.no_grad()
def view_features(network: HashNet, paths: Sequence[Path], size: Input, *, device: str) -> Tensor:
    """(N, D) features of the card's view of each file, on the CPU."""
    network = network.eval()
    batches = view_batches(paths, lambda pixels: pillow_view(pixels, size))
    return torch.cat([network.features(images.to(device)).cpu() for images in batches])


def epoch_batches(
    chunks: Sequence[Sequence[Path]], size: Input, augment: bool, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield one (N, 3, crop, crop) batch in [0, 1] per chunk of files, in order, one chunk decoded ahead.

    With `augment`: a random crop and a horizontal flip, drawn from `generator`.
    """
    draws = [torch.rand((len(chunk), 3), generator=generator).numpy() for chunk in chunks]

    def load(chunk: Sequence[Path], draw: NDArray[np.float32]) -> Tensor:
        images = []
        for path, (y, x, flip) in zip(chunk, draw, strict=True):
            pixels = upright_rgb(imaging.read(path.read_bytes(), name=str(path)))
            if augment:
                images.append(_augmented(pixels, size, float(y), float(x), bool(flip < 0.5)))
            else:
                images.append(pillow_view(pixels, size))
        return torch.stack(images)

    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(load, chunk, draw) for chunk, draw in zip(chunks[:2], draws[:2], strict=True)]
        for index in range(len(chunks)):
            batch = ahead.pop(0).result()
            if index + 2 < len(chunks):
                ahead.append(pool.submit(load, chunks[index + 2], draws[index + 2]))
            yield batch


def _augmented(pixels: NDArray[np.uint8], size: Input, y: float, x: float, flip: bool) -> Tensor:
    small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], size.resize))
    top = int(y * (small.shape[0] - size.crop + 1))
    left = int(x * (small.shape[1] - size.crop + 1))
    crop = small[top : top + size.crop, left : left + size.crop]
    return to_image(crop[:, ::-1] if flip else crop)
