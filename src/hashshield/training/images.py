"""Photos as training reads them: features computed once, or augmented batches decoded ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.checkpoints.card import InputSpec
from hashshield.models.hashing import HashNet, displayed_rgb, view_batches
from hashshield.transforms import pillow_view, resized, short_side, to_image

__all__ = ["Images", "view_features"]

_CACHE_BYTES = 2**30


@torch.no_grad()
def view_features(network: HashNet, paths: Sequence[Path], size: InputSpec, *, device: str) -> Tensor:
    """Return the (N, D) features of the card's view of each file, on the CPU. Raises PhotoError."""
    network = network.eval()
    batches = view_batches(paths, lambda pixels: pillow_view(pixels, size))
    return torch.cat([network.features(images.to(device)).cpu() for images in batches])


class Images:
    """The photos of a stage, as augmented batches; each is decoded once, as long as the cache has room."""

    def __init__(
        self, paths: Sequence[Path], size: InputSpec, *, augment: bool, pad: int = 0, cache_bytes: int = _CACHE_BYTES
    ) -> None:
        self._paths, self._size, self._augment, self._pad = paths, size, augment, pad
        self._cache: dict[int, Pixels] = {}
        self._cache_bytes = cache_bytes
        self.cached_bytes = 0
        """Bytes of the decoded photos in the cache, at most `cache_bytes`."""

    def batches(self, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one (N, 3, crop, crop) batch in [0, 1] per chunk of indices, in order, one chunk decoded ahead.

        To augment, `pad` pixels are reflected around the resized photo, and a random crop and a horizontal flip are
        drawn from `generator`. Raises PhotoError.
        """
        draws = [torch.rand((len(chunk), 3), generator=generator).numpy() for chunk in chunks]

        def load(chunk: Tensor, draw: NDArray[np.float32]) -> Tensor:
            return torch.stack([self._image(int(i), row) for i, row in zip(chunk, draw, strict=True)])

        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(load, chunk, draw) for chunk, draw in zip(chunks[:2], draws[:2], strict=True)]
            for index in range(len(chunks)):
                batch = pending.pop(0).result()
                if index + 2 < len(chunks):
                    pending.append(pool.submit(load, chunks[index + 2], draws[index + 2]))
                yield batch

    def _image(self, index: int, draw: NDArray[np.float32]) -> Tensor:
        """Return one (3, crop, crop) image in [0, 1]; `draw` has row, column and flip, each in [0, 1)."""
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

    def _small(self, index: int) -> Pixels:
        """Return the photo with its short side at the card's size, from the cache if it is there."""
        small = self._cache.get(index)
        if small is None:
            path = self._paths[index]
            pixels = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
            small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], self._size.resize))
            if self.cached_bytes + small.nbytes <= self._cache_bytes:
                self._cache[index] = small
                self.cached_bytes += small.nbytes
        return small
