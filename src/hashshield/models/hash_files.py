"""Hash many files: decode in threads, hash in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.boundary import boundary, reach
from hashshield.checkpoints.card import InputSpec
from hashshield.errors import HashshieldError, InternalError
from hashshield.imaging.formats import read_photo_file
from hashshield.models.hashing import FrozenHash
from hashshield.transforms import pillow_view
from hashshield.types import Codes

__all__ = ["displayed_rgb", "feature_files", "hash_files", "shared_codes", "view_batches"]


def displayed_rgb(photo: imaging.Photo) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels as a viewer sees the photo: in displayed orientation, grey as RGB, alpha on white."""
    pixels = imaging.to_display_orientation(photo.pixels, photo.orientation)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if photo.alpha is not None:
        alpha = imaging.to_display_orientation(photo.alpha, photo.orientation)[..., None].astype(np.uint16)
        pixels = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels


def view_batches(
    paths: Sequence[Path],
    prepare: Callable[[NDArray[np.uint8]], Tensor],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    failed: Callable[[Path, HashshieldError], None] | None = None,
) -> Iterator[Tensor]:
    """Yield (N, 3, h, w) batches of `prepare(displayed pixels)`, in order.

    A bad file is told to `failed` and left out; without it, raises PhotoError.
    """
    for _, images in _batches_of_files(paths, prepare, batch_size=batch_size, jobs=jobs, failed=failed):
        yield images


def _batches_of_files(
    paths: Sequence[Path],
    prepare: Callable[[NDArray[np.uint8]], Tensor],
    *,
    batch_size: int,
    jobs: int,
    failed: Callable[[Path, HashshieldError], None] | None,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield the batches of `view_batches`, each with its files."""

    def load(path: Path) -> Tensor | HashshieldError:
        try:
            with boundary("decode", str(path)):
                return prepare(displayed_rgb(imaging.read(read_photo_file(path, follow=True).data, name=str(path))))
        except HashshieldError as error:
            if failed is None:
                raise
            return error

    with ThreadPoolExecutor(jobs) as pool:
        # Submitting a window at a time keeps decoded photos from piling up in memory.
        pending = iter(paths)
        window = [(path, pool.submit(load, path)) for path in islice(pending, 2 * batch_size)]
        while window:
            batch = window[:batch_size]
            window = window[batch_size:] + [(path, pool.submit(load, path)) for path in islice(pending, len(batch))]
            files, images = [], []
            for path, item in batch:
                loaded = item.result()
                if isinstance(loaded, Tensor):
                    files.append(path)
                    images.append(loaded)
                elif failed is not None:
                    failed(path, loaded)
            if images:
                yield files, torch.stack(images)


@torch.inference_mode()
def feature_files(
    model: FrozenHash,
    size: InputSpec,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    tick: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """(N, D) features of the files under the card's view; `tick` hears of each finished batch."""
    rows = []
    for images in view_batches(paths, lambda pixels: pillow_view(pixels, size), batch_size=batch_size, jobs=jobs):
        rows.append(model.features(images.to(model.mean.device)).float().cpu().numpy())
        tick(len(images))
    return np.concatenate(rows)


@torch.inference_mode()
def hash_files(
    models: Sequence[FrozenHash],
    size: InputSpec,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    tick: Callable[[int], None] = lambda done: None,
    failed: Callable[[Path, HashshieldError], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Relaxed codes (N, K) of the files for each of `models`, which share the input geometry `size`.

    A bad file is told to `failed` and has no row; without it, raises PhotoError.
    """
    found: list[list[NDArray[np.float32]]] = [[] for _ in models]
    batches = _batches_of_files(
        paths, lambda pixels: pillow_view(pixels, size), batch_size=batch_size, jobs=jobs, failed=failed
    )
    for files, images in batches:
        for codes in _hash_batch(models, files, images, failed):
            for rows, code in zip(found, codes, strict=True):
                rows.append(code)
        tick(len(images))
    empty = [np.zeros((0, model.bits), np.float32) for model in models]
    return [np.concatenate(rows) if rows else none for rows, none in zip(found, empty, strict=True)]


def _hash_batch(
    models: Sequence[FrozenHash],
    files: Sequence[Path],
    images: Tensor,
    failed: Callable[[Path, HashshieldError], None] | None,
) -> list[list[NDArray[np.float32]]]:
    """Return the codes of a batch, per model; if it raises, of each photo alone that does not raise again."""
    try:
        with boundary("hash", str(files[0])):
            for path in files[1:]:
                reach("hash", str(path))
            codes = shared_codes(models, images.to(models[0].mean.device))
            return [[code.code.float().cpu().numpy() for code in codes]]
    except InternalError as error:
        if failed is None:
            raise
        if len(files) == 1:
            failed(files[0], error)
            return []
    alone = [_hash_batch(models, [path], image[None], failed) for path, image in zip(files, images, strict=True)]
    return [codes for found in alone for codes in found]


def shared_codes(models: Sequence[FrozenHash], images: Tensor) -> list[Codes]:
    """Codes (N, K) of each of `models`; code lengths of one checkpoint share its trunk, which then runs once."""
    features: dict[int, Tensor] = {}
    found = []
    for model in models:
        if id(model.trunk) not in features:
            features[id(model.trunk)] = model.features(images)
        found.append(model.codes(features[id(model.trunk)]))
    return found
