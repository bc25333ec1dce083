"""Other files that show the same photo: unprotected ones beside it, and results of earlier runs, even rotated since.

A hash network sees a photo as displayed. A result that lost its orientation tag, or whose pixels were rotated, is
displayed differently from the photo that was protected, so it is `reoriented`; protecting it again would add a second
change. If pixels and tag were rotated together, it is displayed the same and still is the result. Rotated pixels are
recognised in lossless files only, because a rotated JPEG decodes to slightly different pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from glob import escape
from hashlib import md5
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from hashshield import imaging
from hashshield.paths import is_folder
from hashshield.storage import Record, Store

__all__ = ["TURNED", "Earlier", "Results", "earlier_record", "earlier_result", "results_of", "twins"]

_RAW = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)", re.IGNORECASE
)
_HEIF = re.compile(r"\.(heic|heif|hif|avif)", re.IGNORECASE)
_FILM = re.compile(r"\.(mov|mp4|m4v|avi|3gp|mp|mts|insv|lrv|thm)", re.IGNORECASE)
_KINDS = ((_RAW, "raw"), (_HEIF, "HEIF"), (_FILM, "film"))
_SIZES = ("normal", "large", "x-large", "xx-large")
"""Folders of the freedesktop thumbnail specification."""
_SAFE = "!$&'()*+,-./:=@_~"
"""Characters that GLib does not escape in a file's URI."""
_FEW = 3
"""Most files to name per place; daily versions would fill a page."""
TURNED = "turned after protection; restore first"

Results = Mapping[str, frozenset[int]]
"""Pixel digest of a result -> the orientations (1 to 8) it was written with; 0 if not recorded."""


def twins(path: Path) -> tuple[str, ...]:
    """Return descriptions, with names, of files that show the photo unprotected.

    These are raw, HEIF and film files with the same stem beside it, thumbnails named after it by network drives and
    albums, thumbnails of file managers (freedesktop), and old versions. No file is opened, and folders that cannot be
    listed are skipped.
    """
    found = [f"{kind} {file.name} beside it" for file, kind in _beside(path)]
    for place, pattern, what in _kept_by_others(path):
        names = sorted(name for name in _names(place) if fnmatchcase(name.casefold(), pattern.casefold()))
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        if names:
            found.append(f"{what}: {', '.join(names[:_FEW])}{more}")
    shared = _named_by_digest(path.absolute().parent / ".sh_thumbnails", {quote(os.fsencode(path.name), safe=_SAFE)})
    if shared:
        found.append(f"thumbnails in .sh_thumbnails: {', '.join(shared)}")
    for root in _caches():
        kept = _named_by_digest(root, _addresses(path))
        if kept:
            found.append(f"thumbnails in {_from_home(root)}: {', '.join(kept)}")
    return tuple(found)


def _caches() -> Iterator[Path]:
    """Yield the thumbnail folders of this user's file managers, current and former."""
    home: Path | None = None
    with suppress(RuntimeError):
        home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification says to ignore a relative path.
    if cache.is_absolute():
        yield cache / "thumbnails"
    elif home is not None:
        yield home / ".cache" / "thumbnails"
    if home is not None:
        yield home / ".thumbnails"


def _addresses(path: Path) -> set[str]:
    """Return the URIs that file managers may use for a photo: with and without links resolved, quoted in two ways."""
    places = {str(path.absolute()), os.path.realpath(path)}
    return {f"file://{quote(os.fsencode(place), safe=safe)}" for place in places for safe in (_SAFE, "/")}


def _named_by_digest(root: Path, addresses: set[str]) -> list[str]:
    """Return the thumbnails of these URIs as `size/name`; a thumbnail's name is the MD5 of its URI."""
    names = {f"{md5(address.encode(), usedforsecurity=False).hexdigest()}.png" for address in addresses}
    found = (f"{size}/{name}" for size in _SIZES for name in names if os.path.lexists(root / size / name))
    return sorted(found, key=lambda name: _SIZES.index(name.partition("/")[0]))


def _from_home(path: Path) -> str:
    """Return a path with the home folder as ~."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (RuntimeError, ValueError):
        return str(path)


def _beside(path: Path) -> Iterator[tuple[Path, str]]:
    for name in sorted(_names(path.parent)):
        other = path.with_name(name)
        # Some cameras and converters append a suffix to the photo's full name: IMG_1.JPG.DNG.
        same = {path.stem.casefold(), path.name.casefold()}
        if name != path.name and other.stem.casefold() in same:
            yield from ((other, kind) for pattern, kind in _KINDS if pattern.fullmatch(other.suffix))


def _kept_by_others(path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield (folder, pattern of names, description) for each place where other programs keep copies of a photo."""
    name, stem, suffix = escape(path.name), escape(path.stem), escape(path.suffix)
    yield path.parent / "@eaDir" / path.name, "SYNOPHOTO_*", "thumbnails in @eaDir"
    yield path.parent / ".@__thumb", f"*{name}", "thumbnails in .@__thumb"
    yield path.parent / ".thumbnails", f"{name}*", "thumbnails in .thumbnails"
    yield path.parent / ".picasaoriginals", name, "original in .picasaoriginals"
    # Syncthing keeps old versions in a folder at the top of the synchronised tree, under the same relative path.
    for top in path.absolute().parents:
        versions = top / ".stversions"
        if is_folder(versions):
            yield versions / path.absolute().parent.relative_to(top), f"{stem}~*{suffix}", "old versions in .stversions"
            yield versions / path.absolute().parent.relative_to(top), name, "old version in .stversions"
            return


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


class Earlier(NamedTuple):
    """The earlier result whose pixels a photo has."""

    digest: str
    """Pixel digest of the result."""
    reoriented: bool
    """Whether the photo is displayed rotated or mirrored, compared with the result."""


def results_of(store: Store) -> dict[str, frozenset[int]]:
    """Return the pixel digests and orientations of all results in the ledger. Raises StorageError."""
    found: dict[str, frozenset[int]] = {}
    for record in store.ledger.every():
        if record.pixels_after is not None and record.kind != "restore" and record.state != "intent":
            orientation = int(record.details.get("orientation", 0))
            found[record.pixels_after] = found.get(record.pixels_after, frozenset()) | {orientation}
    return found


def earlier_result(photo: imaging.Photo, results: Results) -> Earlier | None:
    """Return which of `results` the photo is, in any of the eight orientations; None if it is none of them."""
    reoriented = None
    if not results:
        return None
    for turn in range(1, 9):
        digest = imaging.pixel_digest(photo, turn)
        if digest in results:
            if any(_shows_the_same(turn, written, photo.orientation) for written in results[digest]):
                return Earlier(digest, reoriented=False)
            reoriented = Earlier(digest, reoriented=True)
    return reoriented


def earlier_record(
    photo: imaging.Photo, sha256: str, store: Store, results: Results | None = None
) -> tuple[Record, bool] | None:
    """Return the ledger row whose result the photo is, in any orientation, and whether it is reoriented; else None.

    `sha256` is the file's digest. `results` saves reading the ledger for each of many photos. Raises StorageError.
    """
    record = store.known(sha256)
    if record is not None:
        return record, False
    earlier = earlier_result(photo, results_of(store) if results is None else results)
    record = None if earlier is None else store.known(sha256, earlier.digest)
    return None if record is None or earlier is None else (record, earlier.reoriented)


def _shows_the_same(turn: int, written: int, now: int) -> bool:
    """Whether pixels that `turn` maps to a result's are displayed, with orientation `now`, as the result was.

    `written` is the result's orientation; 0 is unknown, which counts as the same only without a turn.
    """
    if written == 0:
        return turn == 1
    corners = np.arange(6).reshape(2, 3)
    shown_then = imaging.to_display_orientation(imaging.to_display_orientation(corners, turn), written)
    return np.array_equal(shown_then, imaging.to_display_orientation(corners, now))
