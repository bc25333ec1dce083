"""`audit`: index a folder as a search service would, and search it with a photo before and after protection.

The contact sheet shows both searches in a row each, with the query first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hashshield import imaging
from hashshield.arrays import Bits, Distances
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.retrieval import bits_of, hamming, rank_among
from hashshield.models.device import choose_device
from hashshield.models.hashing import displayed_rgb, hash_files
from hashshield.models.load import OpenModel, open_models
from hashshield.paths import is_folder
from hashshield.pipeline.receipt import card_views, codes_of
from hashshield.pipeline.rows import Audit, Neighbour, found_copies, hashed_copies, listed_copies
from hashshield.storage import FOREIGN, Snapshot, Store, check_page, digest, named, put_page
from hashshield.types import Progress

__all__ = ["GallerySearch", "Match", "SheetRow", "audit", "contact_sheet", "gallery_photos", "sheet_kind"]

_SHEET_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_TILE, _GAP, _LINE, _TEXT = 160, 12, 20, 13
_PAPER, _INK, _QUERY, _MATCH = "white", "black", "royalblue", "crimson"


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One photo in the result of a search."""

    name: str
    distance: int
    """Bits from the query."""
    image: Image.Image | Path
    is_query: bool = False
    """Whether it is the query's counterpart (protected photo or original), which should not be found."""


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One search on the contact sheet."""

    title: str
    query: Image.Image
    matches: Sequence[Match]
    """Nearest first."""


def sheet_kind(path: Path) -> str:
    """Return Pillow's name for the format of a sheet's file name. Raises UsageError."""
    kind = _SHEET_KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"--sheet {path}: a contact sheet is a JPEG or PNG file; end its name with .jpg or .png")
    return kind


def contact_sheet(strips: Sequence[SheetRow], *, kind: str) -> bytes:
    """Return the encoded sheet, one row per search. Raises PhotoError for a photo that is gone since the search."""
    columns = 1 + max(len(strip.matches) for strip in strips)
    height = _LINE + _TILE + 2 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (columns * (_TILE + _GAP) + 2 * _GAP, len(strips) * height + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for number, strip in enumerate(strips):
        top = number * height + _GAP
        draw.text((_GAP, top), _printable(strip.title), _INK, font)
        _tile(sheet, draw, font, _GAP, top + _LINE, strip.query, _QUERY, ["searched with"])
        for place, found in enumerate(strip.matches):
            left = 2 * _GAP + (place + 1) * (_TILE + _GAP)
            image = _opened(found.image) if isinstance(found.image, Path) else found.image
            words = [f"{place + 1}: {found.distance} bits", found.name]
            _tile(sheet, draw, font, left, top + _LINE, image, _MATCH if found.is_query else None, words)
    buffer = BytesIO()
    sheet.save(buffer, kind, quality=90)
    return buffer.getvalue()


def _tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    left: int,
    top: int,
    image: Image.Image,
    frame: str | None,
    words: Sequence[str],
) -> None:
    small = image.copy()
    small.thumbnail((_TILE, _TILE))
    x, y = left + (_TILE - small.width) // 2, top + (_TILE - small.height) // 2
    sheet.paste(small, (x, y))
    if frame is not None:
        draw.rectangle((x - 3, y - 3, x + small.width + 2, y + small.height + 2), outline=frame, width=3)
    for number, text in enumerate(words):
        draw.text((left, top + _TILE + 4 + number * _LINE), _fitting(text, font), frame or _INK, font)


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    text = _printable(text)
    while font.getlength(text) > _TILE:
        text = text[:-2] + "~"
    return text


def _printable(text: str) -> str:
    """Return the text with unprintable characters, such as line breaks in file names, as question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _opened(path: Path) -> Image.Image:
    photo = imaging.read(read_photo_file(path, follow=True).data, name=str(path))
    return Image.fromarray(displayed_rgb(photo))


@dataclass(frozen=True, slots=True, eq=False)
class GallerySearch:
    """Two searches of one gallery on one network: with the original, and with the protected photo."""

    model: OpenModel
    original_bits: Bits
    """(K,) of the original."""
    protected_bits: Bits
    """(K,) of the protected photo."""
    paths: Sequence[Path]
    gallery: Bits
    """(N, K), in the order of `paths`."""
    top: int
    """Number of photos that a search shows."""

    @property
    def distance(self) -> int:
        """Bits between original and protected photo."""
        return int(np.count_nonzero(self.original_bits != self.protected_bits))

    def distances(self) -> tuple[Distances, Distances]:
        """Return the gallery's (N,) distances, in bits, from the original and from the protected photo."""
        before, after = hamming(np.stack([self.original_bits, self.protected_bits]), self.gallery)
        return before, after

    def nearest(self, distances: Distances) -> list[int]:
        """Return the indices of the `top` nearest gallery photos, nearest first, ties in gallery order."""
        return [int(place) for place in np.argsort(distances, kind="stable")[: self.top]]

    def row(self, path: Path, source: str, threshold: int) -> Audit:
        """Return what both searches find; `source` says where the original came from, `threshold` is in bits."""
        before, after = self.distances()
        ranks_before, ranks_after = rank_among(before, before), rank_among(after, after)

        def neighbours(distances: Distances) -> tuple[Neighbour, ...]:
            return tuple(
                Neighbour(str(self.paths[i]), int(before[i]), int(ranks_before[i]), int(after[i]), int(ranks_after[i]))
                for i in self.nearest(distances)
            )

        return Audit(
            str(path),
            "audited",
            original=source,
            model=self.model.name,
            bits=self.model.bits,
            gallery=len(self.paths),
            threshold=threshold,
            distance=self.distance,
            original_rank=int(rank_among(np.array([self.distance]), after)[0]),
            protected_rank=int(rank_among(np.array([self.distance]), before)[0]),
            within_before=int(np.count_nonzero(before <= threshold)),
            within_after=int(np.count_nonzero(after <= threshold)),
            shared=len(set(self.nearest(before)) & set(self.nearest(after))),
            nearest_before=neighbours(before),
            nearest_after=neighbours(after),
        )

    def sheet_rows(self, row: Audit, displayed: Sequence[Image.Image]) -> list[SheetRow]:
        """Return both searches for the contact sheet, each with the counterpart inserted at its rank."""
        before, after = self.distances()
        original, protected = displayed
        return [
            SheetRow(
                f"{self.model.name}: search with the original; the protected photo is at rank {row.protected_rank} of "
                f"{len(self.paths) + 1}, {self.distance} of {self.model.bits} bits",
                original,
                self._found(before, row.protected_rank, "protected", protected),
            ),
            SheetRow(
                f"{self.model.name}: search with the protected photo; the original is at rank {row.original_rank} of "
                f"{len(self.paths) + 1}, {self.distance} of {self.model.bits} bits",
                protected,
                self._found(after, row.original_rank, "original", original),
            ),
        ]

    def _found(self, distances: Distances, rank: int | None, name: str, image: Image.Image) -> list[Match]:
        found = [Match(self.paths[i].name, int(distances[i]), self.paths[i]) for i in self.nearest(distances)]
        if rank is not None and rank <= self.top:
            found.insert(rank - 1, Match(name, self.distance, image, is_query=True))
        return found[: self.top]


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
    found: Callable[[Sequence[Audit]], None] = lambda rows: None,
) -> list[Audit]:
    """Return one row per network with what a search in `gallery` finds, then one per file that could not be hashed.

    `path` is a protected photo; its original is `original`, or the vault's. A search shows `top` photos. At most
    `threshold` bits count as a match (default: an eighth of the code). With `sheet`, a contact sheet of both searches
    is written there, after `found` was called with the rows. Raises UsageError, PhotoError for the two photos,
    CheckpointError, StorageError.
    """
    kind = None if sheet is None else sheet_kind(sheet)
    if sheet is not None:
        check_page(sheet)
    if not is_folder(gallery):
        raise UsageError(f"--gallery {gallery}: no such folder; name one that holds photos")
    with Store.open(vault, reading=True) as store:
        after = read_photo_file(path, follow=True)
        before = _original(path, after, original, store)
        if isinstance(before, Audit):
            return [before]
        root = store.root
        listed = listed_copies(digest(before), after.sha256, store)
    with boundary("decode", str(path)):
        displayed = [
            Image.fromarray(displayed_rgb(imaging.read(data, name=str(path)))) for data in (before, after.data)
        ]
    opened = open_models(models, device=choose_device(device))
    with boundary("compare", str(path)), torch.inference_mode():
        pairs = list(zip(*(codes_of(card_views(image, opened), opened) for image in displayed), strict=True))
        copies = list(hashed_copies(listed, opened))
    rest: list[Audit] = []
    files = list(gallery_photos(gallery, root, exclude, (before, after.data), rest))
    index = _index(files, opened, rest, progress)
    if not index.paths:
        raise UsageError(f"--gallery {gallery}: holds no photo to search among; name a folder of photos")
    source = "the vault" if original is None else str(original)
    rows, strips = [], []
    for number, (model, (own, now), codes) in enumerate(zip(opened, pairs, index.codes, strict=True)):
        search = GallerySearch(model, bits_of(own), bits_of(now), index.paths, bits_of(codes), top)
        near = model.bits // 8 if threshold is None else threshold
        row = search.row(path, source, near)
        row = replace(row, copies=found_copies(copies, number, bits_of(now), search.distances()[1], near))
        rows.append(row)
        strips += search.sheet_rows(row, displayed)
    if sheet is not None and kind is not None:
        found([*rows, *rest])
        with boundary("row", str(sheet)):
            put_page(sheet, contact_sheet(strips, kind=kind))
    return rows + rest


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    paths: list[Path]
    codes: list[NDArray[np.float32]]
    """(N, K) per model, in the order of `paths`."""


def _original(path: Path, after: Snapshot, original: Path | None, store: Store) -> bytes | Audit:
    """Return the original's bytes, or a row that says why they are not available."""
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


def gallery_photos(
    gallery: Path, root: Path, exclude: Sequence[str], audited: Sequence[bytes], rest: list[Audit]
) -> Iterator[Path]:
    """Yield the photos of the gallery, a folder or a single file, except those whose bytes are in `audited`.

    Files that are not photos or cannot be read get a row in `rest`. `root` is the vault's folder, which is skipped.
    """

    def failed(folder: Path, error: OSError) -> None:
        rest.append(Audit(str(folder), "failed", reason=f"cannot be listed ({error.strerror})"))

    def foreign(location: Path) -> bool:
        rest.append(Audit(str(location), "skipped", reason=FOREIGN))
        return False

    for file, _ in named([gallery], skip=root, exclude=exclude, failed=failed, foreign=foreign):
        try:
            with file.open("rb") as handle:
                head = handle.read(64)
            size = file.stat().st_size
            same = any(size == len(data) and file.read_bytes() == data for data in audited)
        except OSError as error:
            rest.append(Audit(str(file), "failed", reason=f"cannot be read ({error.strerror})"))
            continue
        if imaging.sniff(head) is None:
            rest.append(Audit(str(file), "skipped", reason="not an image"))
        elif not same:
            yield file


def _index(files: Sequence[Path], models: Sequence[OpenModel], rest: list[Audit], progress: Progress) -> _Index:
    """Hash every file with all networks, decoding it once per distinct input of the networks."""
    order = sorted(range(len(models)), key=lambda i: repr(models[i].card.input))
    groups = [list(group) for _, group in groupby(order, key=lambda i: models[i].card.input)]
    progress.start(len(files) * len(groups))
    broken: dict[Path, str] = {}

    def failed(path: Path, error: HashshieldError) -> None:
        broken[path] = str(error)
        progress.done(None)

    codes: dict[int, NDArray[np.float32]] = {}
    hashed: dict[int, list[Path]] = {}
    for group in groups:
        asked = [file for file in files if file not in broken]
        found = hash_files(
            [models[i].model for i in group],
            models[group[0]].card.input,
            asked,
            tick=_counted(progress),
            failed=failed,
        )
        codes |= dict(zip(group, found, strict=True))
        hashed |= {i: [file for file in asked if file not in broken] for i in group}
    rest += [Audit(str(path), "failed", reason=reason) for path, reason in broken.items()]
    # A file may fail in a later group only: then drop the codes that earlier groups have of it.
    sound = [[file not in broken for file in hashed[i]] for i in range(len(models))]
    return _Index([file for file in files if file not in broken], [codes[i][kept] for i, kept in enumerate(sound)])


def _counted(progress: Progress) -> Callable[[int], None]:
    def tick(number: int) -> None:
        for _ in range(number):
            progress.done(None)

    return tick
