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
from hashshield.checkpoints.card import InputSpec
from hashshield.models.hash_files import upright_rgb, view_batches
from hashshield.models.hashing import HashNet
from hashshield.views import pillow_view, resized, short_side, to_image

__all__ = ["Images", "view_features"]

_KEPT_BYTES = 2**30


@torch.no_grad()
def view_features(network: HashNet, paths: Sequence[Path], size: InputSpec, *, device: str) -> Tensor:
    """(N, D) features of the card's view of each file, on the CPU."""
    network = network.eval()
    batches = view_batches(paths, lambda pixels: pillow_view(pixels, size))
    return torch.cat([network.features(images.to(device)).cpu() for images in batches])


class Images:
    """The files of a stage, decoded once where they fit in memory, as augmented batches."""

    def __init__(self, paths: Sequence[Path], size: InputSpec, *, augment: bool, pad: int = 0) -> None:
        self._paths, self._size, self._augment, self._pad = paths, size, augment, pad
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = _KEPT_BYTES

    def batches(self, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one (N, 3, crop, crop) batch in [0, 1] per chunk of indices, in order, one chunk decoded ahead.

        When augmenting: `pad` pixels are reflected around the resized photo, then a random crop and a horizontal flip
        are drawn from `generator`.
        """
        draws = [torch.rand((len(chunk), 3), generator=generator).numpy() for chunk in chunks]

        def load(chunk: Tensor, draw: NDArray[np.float32]) -> Tensor:
            return torch.stack([self._image(int(i), row) for i, row in zip(chunk, draw, strict=True)])

        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(load, chunk, draw) for chunk, draw in zip(chunks[:2], draws[:2], strict=True)]
            for index in range(len(chunks)):
                batch = ahead.pop(0).result()
                if index + 2 < len(chunks):
                    ahead.append(pool.submit(load, chunks[index + 2], draws[index + 2]))
                yield batch

    def _image(self, index: int, draw: NDArray[np.float32]) -> Tensor:
        small = self._small(index)
        if not self._augment:
            return pillow_view(small, self._size)
        if self._pad:
            small = np.pad(small, ((self._pad, self._pad), (self._pad, self._pad), (0, 0)), mode="reflect")
        y, x, flip = map(float, draw)
        top = int(y * (small.shape[0] - self._size.crop + 1))
        left = int(x * (small.shape[1] - self._size.crop + 1))
        crop = small[top : top + self._size.crop, left : left + self._size.crop]
        return to_image(crop[:, ::-1] if flip < 0.5 else crop)

    def _small(self, index: int) -> NDArray[np.uint8]:
        """The photo with its short side at the card's size."""
        small = self._kept.get(index)
        if small is None:
            path = self._paths[index]
            pixels = upright_rgb(imaging.read(path.read_bytes(), name=str(path)))
            small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], self._size.resize))
            if small.nbytes <= self._room:
                self._kept[index] = small
                self._room -= small.nbytes
        return small
