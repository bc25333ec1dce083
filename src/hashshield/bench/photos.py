"""Protecting a list of photos in memory, for benches: lossless copies in, written pixels out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from hashshield import imaging
from hashshield.models.hash_files import displayed_rgb
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest, walk
from hashshield.types import Progress

__all__ = ["as_png", "files_below", "protect_all", "protect_each"]


def files_below(folder: Path) -> list[Path]:
    """The photos of a kind that is supported, in the order of `storage.walk`."""

    def head(path: Path) -> bytes:
        with path.open("rb") as handle:
            return handle.read(64)

    return [path for path in walk(folder) if imaging.sniff(head(path)) in imaging.SUPPORTED]


def as_png(path: Path) -> bytes:
    """The photo's pixels, upright and in RGB, as a PNG file. Raises PhotoError."""
    buffer = io.BytesIO()
    pixels = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def protect_each(paths: Iterable[Path], context: ProtectContext, progress: Progress) -> Iterator[tuple[int, Result]]:
    """Protect PNG copies of `paths`; yield the place of each in them and what became of it, as they finish."""
    sources = (
        Source(str(path), data, digest(data), key=index) for index, path in enumerate(paths) if (data := as_png(path))
    )
    for result in work(sources, context):
        assert isinstance(result.source.key, int)
        progress.done(None)
        yield result.source.key, result


def protect_all(paths: Sequence[Path], context: ProtectContext, progress: Progress) -> list[Result]:
    """Protect PNG copies of `paths`; results in their order."""
    results = dict(protect_each(paths, context, progress))
    return [results[index] for index in range(len(paths))]
