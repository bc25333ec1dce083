"""`audit --copies`: find the photos of a folder that are copies of the user's, with a copy detector.

The copy detector compares two embeddings by cosine. PDQ, if installed, also finds blurred or partly covered copies. The
distances of semantic hash networks are reported as well, to show what each kind of service would find. If photos and
gallery are the same folder, the result says which published copies find each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, UsageError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.image import pdq
from hashshield.models.device import choose_device
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel, open_models
from hashshield.paths import exists
from hashshield.pipeline.audit import Match, SheetRow, contact_sheet, gallery_photos, sheet_kind
from hashshield.pipeline.rows import Audit, CopyPair, SemanticMatch
from hashshield.storage import Store, check_page, put_page
from hashshield.types import Progress

__all__ = ["COPY_DETECTOR", "PDQ_MATCH", "PDQ_WITHIN", "find_copies"]

COPY_DETECTOR = "copies:256"
"""Default copy detector, if none of the named networks is one."""
PDQ_MATCH = 31
"""Distance, of 256 bits, up to which PDQ's publisher recommends to call a pair a match."""
PDQ_WITHIN = 92
"""PDQ distance, of 256 bits, up to which a pair is a copy: one unrelated pair in two thousand is as near (measured on
training photos of Caltech-101), so PDQ adds half as many false pairs as the detector's threshold allows."""
_MOST_STRIPS = 200
"""Most photos on a sheet; a JPEG has at most 65,535 lines."""


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Embedding and hashes of one photo."""

    path: Path
    embedding: NDArray[np.float32]
    """(D,) of the copy detector, of unit length."""
    code: Bits
    """(K,) of the copy detector."""
    semantic: tuple[Bits, ...]
    """(K,) per semantic network."""
    pdq: NDArray[np.bool_] | None
    """(256,); None without the package pdqhash."""


def find_copies(
    path: Path,
    gallery: Path,
    *,
    models: Sequence[str],
    top: int = 10,
    threshold: int | None = None,
    sheet: Path | None = None,
    vault: Path | None = None,
    device: str = "auto",
    exclude: Sequence[str] = (),
    progress: Progress,
    found: Callable[[Sequence[CopyPair]], None] = lambda rows: None,
) -> list[CopyPair]:
    """Return one row per copy in `gallery` of the photos of `path`, then one per file that could not be compared.

    `path` is a photo or a folder, and may be the gallery itself. For each photo the `top` most similar copies are
    returned. A pair is a copy if its cosine reaches that of the detector's card, or its PDQ distance is at most
    `PDQ_WITHIN`; with `threshold`, if the detector's codes differ in at most that many bits, and only then. The
    detector is the first of `models` whose card has such a cosine, or else `COPY_DETECTOR`. With `sheet`, a contact
    sheet of all pairs is written there, after `found` was called with the rows. Raises UsageError, CheckpointError,
    StorageError.
    """
    kind = None if sheet is None else sheet_kind(sheet)
    if sheet is not None:
        check_page(sheet)
    for place, option in ((path, "PATH"), (gallery, "--gallery")):
        if not exists(place):
            raise UsageError(f"{option} {place}: no such file or folder; name photos")
    with Store.open(vault, reading=True) as store:
        root = store.root
    detector, semantic = _networks(models, choose_device(device))
    rest: list[Audit] = []
    mine = list(gallery_photos(path, root, exclude, (), rest))
    theirs = list(gallery_photos(gallery, root, exclude, (), rest))
    if not mine or not theirs:
        empty = f"PATH {path}" if not mine else f"--gallery {gallery}"
        raise UsageError(f"{empty}: holds no photo that can be searched with; name a folder of photos")
    described = _looks(mine, theirs, detector, semantic, rest, progress)
    rows: list[CopyPair] = []
    for one in mine:
        rows += _pairs_of(one, mine, theirs, described, detector, semantic, threshold, top)
    lacking = [CopyPair(row.path, _lacking(row), row.reason) for row in _once(rest)]
    if sheet is not None and kind is not None and rows:
        found([*rows, *lacking])
        with boundary("row", str(sheet)):
            put_page(sheet, contact_sheet(list(_strips(rows)), kind=kind))
    return rows + lacking


def _networks(models: Sequence[str], device: str) -> tuple[OpenModel, list[OpenModel]]:
    """Return the copy detector and the other networks. Raises UnknownNameError, CheckpointError."""
    opened = open_models(models, device=device)
    detectors = [model for model in opened if model.card.within is not None and model.card.cosine is not None]
    detector = detectors[0] if detectors else open_models([COPY_DETECTOR], device=device)[0]
    return detector, [model for model in opened if model.card.within is None]


def _looks(
    mine: Sequence[Path],
    theirs: Sequence[Path],
    detector: OpenModel,
    semantic: Sequence[OpenModel],
    rest: list[Audit],
    progress: Progress,
) -> dict[Path, _Look]:
    """Hash every file once; files that cannot be read get a row in `rest`."""
    files = list(dict.fromkeys(file.resolve() for file in (*mine, *theirs)))
    progress.start(len(files))
    described: dict[Path, _Look] = {}
    for file in files:
        try:
            with boundary("decode", str(file)):
                pixels = displayed_rgb(imaging.read(read_photo_file(file, follow=True).data, name=str(file)))
            with boundary("hash", str(file)):
                described[file] = _look(file, pixels, detector, semantic)
        except HashshieldError as error:
            rest.append(Audit(str(file), "failed", reason=str(error)))
        progress.done(None)
    return described


def _look(file: Path, pixels: NDArray[np.uint8], detector: OpenModel, semantic: Sequence[OpenModel]) -> _Look:
    hashed = detector.hash(pixels)
    embedding = torch.nn.functional.normalize(hashed.features.float(), dim=0).cpu().numpy()
    try:
        classical = pdq(Image.fromarray(pixels))
    except ImportError:
        classical = None
    return _Look(file, embedding, hashed.bits, tuple(model.hash(pixels).bits for model in semantic), classical)


def _pairs_of(
    one: Path,
    mine: Sequence[Path],
    theirs: Sequence[Path],
    described: dict[Path, _Look],
    detector: OpenModel,
    semantic: Sequence[OpenModel],
    threshold: int | None,
    top: int,
) -> list[CopyPair]:
    """Return the rows of one photo's copies, the most similar first; a pair within `mine` is listed once."""
    mine_described = described.get(one.resolve())
    if mine_described is None:
        return []
    places = {file.resolve(): number for number, file in enumerate(mine)}
    pairs = []
    for other in theirs:
        candidate = described.get(other.resolve())
        if (
            candidate is None
            or candidate is mine_described
            or places.get(candidate.path, len(mine)) < places[mine_described.path]
        ):
            continue
        pair = _pair(one, other, mine_described, candidate, detector, semantic, threshold)
        if _is_copy(pair, threshold):
            pairs.append(pair)
    return sorted(pairs, key=lambda pair: -(pair.cosine or 0.0))[:top]


def _is_copy(pair: CopyPair, threshold: int | None) -> bool:
    if threshold is not None:
        return pair.distance is not None and pair.distance <= threshold
    by_network = pair.cosine is not None and pair.cosine >= (pair.cosine_threshold or 0.0)
    return by_network or (pair.pdq_distance is not None and pair.pdq_distance <= PDQ_WITHIN)


def _pair(
    one: Path,
    other: Path,
    mine_described: _Look,
    candidate: _Look,
    detector: OpenModel,
    semantic: Sequence[OpenModel],
    threshold: int | None,
) -> CopyPair:
    """Return the row of two photos, with all distances."""
    classical = (
        None if mine_described.pdq is None or candidate.pdq is None else _differing(mine_described.pdq, candidate.pdq)
    )
    return CopyPair(
        str(one),
        "copy",
        copy=str(other),
        model=detector.name,
        cosine=round(float(mine_described.embedding @ candidate.embedding), 4),
        cosine_threshold=detector.card.cosine if threshold is None else None,
        bits=detector.bits,
        distance=_differing(mine_described.code, candidate.code),
        within=detector.card.within if threshold is None else threshold,
        semantic=tuple(
            SemanticMatch(model.name, model.bits, distance, distance <= model.bits // 8)
            for model, a, b in zip(semantic, mine_described.semantic, candidate.semantic, strict=True)
            for distance in (_differing(a, b),)
        ),
        pdq_distance=classical,
        pdq_match=None if classical is None else classical <= PDQ_MATCH,
        pdq_within=None if classical is None or threshold is not None else PDQ_WITHIN,
    )


def _differing(a: NDArray[Any], b: NDArray[Any]) -> int:
    return int(np.count_nonzero(a != b))


def _strips(rows: Sequence[CopyPair]) -> Iterator[SheetRow]:
    """Yield a sheet row of each photo with its copies. Raises PhotoError for a photo that is gone."""
    photos = list(dict.fromkeys(row.path for row in rows))
    for photo in photos[:_MOST_STRIPS]:
        copies = [row for row in rows if row.path == photo]
        matches = [Match(Path(str(row.copy)).name, row.distance or 0, Path(str(row.copy))) for row in copies]
        cosines = ", ".join(f"{row.cosine:.2f}" for row in copies)
        displayed = displayed_rgb(imaging.read(read_photo_file(Path(photo), follow=True).data, name=photo))
        title = f"{photo}: copies found by {copies[0].model}, cosine {cosines}"
        yield SheetRow(title, Image.fromarray(displayed), matches)


def _lacking(row: Audit) -> Any:
    return "failed" if row.status == "failed" else "skipped"


def _once(rows: Sequence[Audit]) -> list[Audit]:
    """Return one row per path; there may be two if photos and gallery overlap."""
    return list({row.path: row for row in rows}.values())
