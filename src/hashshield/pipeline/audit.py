"""`audit`: index a folder as a search service would, and see what it finds of a photo before and after protection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.imaging.formats import read_photo_file
from hashshield.metrics.hamming import bits_of
from hashshield.models.device import choose_device
from hashshield.models.hash_files import displayed_rgb, hash_files
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.lookup import GallerySearch
from hashshield.pipeline.sheet import contact_sheet, sheet_kind
from hashshield.pipeline.survival import card_views, codes_of
from hashshield.storage import FOREIGN, Snapshot, Store, check_page, named, put_page
from hashshield.types import Audit, Progress

__all__ = ["audit"]


def audit(
    path: Path,
    gallery: Path,
    *,
    models: Sequence[str],
    original: Path | None = None,
    top: int = 10,
    threshold: int | None = None,
    sheet: Path | None = None,
    vault: Path | None = None,
    device: str = "auto",
    exclude: Sequence[str] = (),
    progress: Progress,
) -> list[Audit]:
    """One row per network on what a search among the photos of `gallery` finds, then one per file that has no code.

    `path` is a protected photo; its original is `original`, or what the vault holds of it. `top` photos count as what a
    search shows, `threshold` bits or fewer as a match (default: an eighth of the code). With `sheet` a picture of both
    searches is written there. Raises UsageError, PhotoError for the two photos, CheckpointError, StorageError.
    """
    kind = None if sheet is None else sheet_kind(sheet)
    if sheet is not None:
        check_page(sheet)
    if not gallery.is_dir():
        raise UsageError(f"--gallery {gallery}: no such folder; name one that holds photos")
    with Store.open(vault, reading=True) as store:
        after = read_photo_file(path, follow=True)
        before = _original(path, after, original, store)
        if isinstance(before, Audit):
            return [before]
        root = store.root
    shown = [Image.fromarray(displayed_rgb(imaging.read(data, name=str(path)))) for data in (before, after.data)]
    opened = open_models(models, device=choose_device(device))
    with torch.inference_mode():
        pairs = list(zip(*(codes_of(card_views(image, opened), opened) for image in shown), strict=True))
    rest: list[Audit] = []
    files = list(_files(gallery, root, exclude, (before, after.data), rest))
    index = _index(files, opened, rest, progress)
    if not index.paths:
        raise UsageError(f"--gallery {gallery}: holds no photo to search among; name a folder of photos")
    source = "the vault" if original is None else str(original)
    rows, strips = [], []
    for model, (own, now), codes in zip(opened, pairs, index.codes, strict=True):
        search = GallerySearch(model, bits_of(own), bits_of(now), index.paths, bits_of(codes), top)
        row = search.row(path, source, model.bits // 8 if threshold is None else threshold)
        rows.append(row)
        strips += search.sheet_rows(row, shown)
    if sheet is not None and kind is not None:
        put_page(sheet, contact_sheet(strips, kind=kind))
    return rows + rest


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    paths: list[Path]
    codes: list[NDArray[np.float32]]
    """(N, K) per model, in the order of `paths`."""


def _original(path: Path, after: Snapshot, original: Path | None, store: Store) -> bytes | Audit:
    """The original's bytes, or the row that says why they cannot be had."""
    if original is not None:
        return read_photo_file(original, follow=True).data
    record = store.known(after.sha256)
    if record is None:
        record = store.known(after.sha256, imaging.pixel_digest(imaging.read(after.data, name=str(path))))
    if record is None:
        return Audit(str(path), "unknown", reason="not in the ledger; give its original with --original")
    try:
        return store.original(record)
    except StorageError as error:
        return Audit(str(path), "failed", reason=f"{error}; give the original with --original")


def _files(
    gallery: Path, root: Path, exclude: Sequence[str], searched: Sequence[bytes], rest: list[Audit]
) -> Iterator[Path]:
    """Photos of the gallery but those with `searched` contents; what is none, or cannot be read, goes to `rest`."""

    def failed(folder: Path, error: OSError) -> None:
        rest.append(Audit(str(folder), "failed", reason=f"cannot be listed ({error.strerror})"))

    def foreign(place: Path) -> bool:
        rest.append(Audit(str(place), "skipped", reason=FOREIGN))
        return False

    for file, _ in named([gallery], skip=root, exclude=exclude, failed=failed, foreign=foreign):
        try:
            with file.open("rb") as handle:
                head = handle.read(64)
            size = file.stat().st_size
            same = any(size == len(data) and file.read_bytes() == data for data in searched)
        except OSError as error:
            rest.append(Audit(str(file), "failed", reason=f"cannot be read ({error.strerror})"))
            continue
        if imaging.sniff(head) is None:
            rest.append(Audit(str(file), "skipped", reason="not an image"))
        elif not same:
            yield file


def _index(files: Sequence[Path], models: Sequence[OpenModel], rest: list[Audit], progress: Progress) -> _Index:
    """Hash every file once per way of looking at it that a network has."""
    order = sorted(range(len(models)), key=lambda i: repr(models[i].card.input))
    groups = [list(group) for _, group in groupby(order, key=lambda i: models[i].card.input)]
    progress.start(len(files) * len(groups))
    broken: dict[Path, str] = {}

    def failed(path: Path, error: HashshieldError) -> None:
        broken[path] = str(error)
        progress.done(None)

    codes: dict[int, NDArray[np.float32]] = {}
    for group in groups:
        found = hash_files(
            [models[i].model for i in group],
            models[group[0]].card.input,
            [file for file in files if file not in broken],
            tick=_counted(progress),
            failed=failed,
        )
        codes |= dict(zip(group, found, strict=True))
    rest += [Audit(str(path), "failed", reason=reason) for path, reason in broken.items()]
    return _Index([file for file in files if file not in broken], [codes[i] for i in range(len(models))])


def _counted(progress: Progress) -> Callable[[int], None]:
    def tick(number: int) -> None:
        for _ in range(number):
            progress.done(None)

    return tick
