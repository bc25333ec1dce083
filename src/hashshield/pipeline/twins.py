"""Other files that show the same photo: what the camera wrote beside it, and what other programs keep of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

__all__ = ["twins"]

_RAW = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)", re.IGNORECASE
)
_HEIF = re.compile(r"\.(heic|heif|hif|avif)", re.IGNORECASE)
_FILM = re.compile(r"\.(mov|mp4|m4v|avi|3gp|mp|mts|insv|lrv|thm)", re.IGNORECASE)
_KINDS = ((_RAW, "raw"), (_HEIF, "HEIF"), (_FILM, "film"))
_FEW = 3
"""Files named of each place; an old version a day would fill a page."""


def twins(path: Path) -> tuple[str, ...]:
    """Return what lies beside a photo and shows it unprotected, in words, each with its file's name.

    That is a raw, HEIF or film file of the same stem, thumbnails of network drives and albums that are named after it,
    and old versions of it. Nothing is opened, and what cannot be listed is passed over.
    """
    found = [f"{kind} {file.name} beside it" for file, kind in _beside(path)]
    for place, pattern, what in _kept_by_others(path):
        names = sorted(name for name in _names(place) if fnmatchcase(name.casefold(), pattern.casefold()))
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        if names:
            found.append(f"{what}: {', '.join(names[:_FEW])}{more}")
    return tuple(found)


def _beside(path: Path) -> Iterator[tuple[Path, str]]:
    for name in sorted(_names(path.parent)):
        other = path.with_name(name)
        # Some cameras and converters add the suffix to the photo's whole name: IMG_1.JPG.DNG.
        same = {path.stem.casefold(), path.name.casefold()}
        if name != path.name and other.stem.casefold() in same:
            yield from ((other, kind) for pattern, kind in _KINDS if pattern.fullmatch(other.suffix))


def _kept_by_others(path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield (folder, pattern of names, what it is) for where other programs would keep copies of a photo."""
    name, stem, suffix = escape(path.name), escape(path.stem), escape(path.suffix)
    yield path.parent / "@eaDir" / path.name, "SYNOPHOTO_*", "thumbnails in @eaDir"
    yield path.parent / ".@__thumb", f"*{name}", "thumbnails in .@__thumb"
    yield path.parent / ".thumbnails", f"{name}*", "thumbnails in .thumbnails"
    yield path.parent / ".picasaoriginals", name, "original in .picasaoriginals"
    # Syncthing keeps old versions at the top of what it synchronises, in the same folders.
    for top in path.absolute().parents:
        versions = top / ".stversions"
        if versions.is_dir():
            yield versions / path.absolute().parent.relative_to(top), f"{stem}~*{suffix}", "old versions in .stversions"
            yield versions / path.absolute().parent.relative_to(top), name, "old version in .stversions"
            return


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
