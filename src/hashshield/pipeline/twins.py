"""Other files that show the same photo: what the camera wrote beside it, and what other programs keep of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from glob import escape
from hashlib import md5
from pathlib import Path
from urllib.parse import quote

__all__ = ["twins"]

_RAW = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)", re.IGNORECASE
)
_HEIF = re.compile(r"\.(heic|heif|hif|avif)", re.IGNORECASE)
_FILM = re.compile(r"\.(mov|mp4|m4v|avi|3gp|mp|mts|insv|lrv|thm)", re.IGNORECASE)
_KINDS = ((_RAW, "raw"), (_HEIF, "HEIF"), (_FILM, "film"))
_SIZES = ("normal", "large", "x-large", "xx-large")
"""Folders of the freedesktop scheme."""
_SAFE = "!$&'()*+,-./:=@_~"
"""Characters that GLib leaves as they are in a file's URI."""
_FEW = 3
"""Files named of each place; an old version a day would fill a page."""


def twins(path: Path) -> tuple[str, ...]:
    """Return what lies beside a photo and shows it unprotected, in words, each with its file's name.

    That is a raw, HEIF or film file of the same stem, thumbnails of network drives and albums that are named after it,
    those that file managers keep by the freedesktop scheme, and old versions of it. Nothing is opened, and what cannot
    be listed is passed over.
    """
    found = [f"{kind} {file.name} beside it" for file, kind in _beside(path)]
    for place, pattern, what in _kept_by_others(path):
        names = sorted(name for name in _names(place) if fnmatchcase(name.casefold(), pattern.casefold()))
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        if names:
            found.append(f"{what}: {', '.join(names[:_FEW])}{more}")
    shared = _named_by_digest(path.absolute().parent / ".sh_thumbnails", {quote(path.name, safe=_SAFE)})
    if shared:
        found.append(f"thumbnails in .sh_thumbnails: {', '.join(shared)}")
    for root in _caches():
        kept = _named_by_digest(root, _addresses(path))
        if kept:
            found.append(f"thumbnails in {_from_home(root)}: {', '.join(kept)}")
    return tuple(found)


def _caches() -> Iterator[Path]:
    """Yield where the thumbnails of this user's file managers lie, now and formerly."""
    home: Path | None = None
    with suppress(RuntimeError):
        home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the specification a relative path is invalid and passed over.
    if cache.is_absolute():
        yield cache / "thumbnails"
    elif home is not None:
        yield home / ".cache" / "thumbnails"
    if home is not None:
        yield home / ".thumbnails"


def _addresses(path: Path) -> set[str]:
    """URIs that file managers may know a photo by: its path as given and without links, quoted in two ways."""
    places = {str(path.absolute()), os.path.realpath(path)}
    return {f"file://{quote(os.fsencode(place), safe=safe)}" for place in places for safe in (_SAFE, "/")}


def _named_by_digest(root: Path, addresses: set[str]) -> list[str]:
    """Names below `root`, with their folder, of thumbnails of these addresses: the MD5 of each, in a folder a size."""
    names = {f"{md5(address.encode(), usedforsecurity=False).hexdigest()}.png" for address in addresses}
    found = (f"{size}/{name}" for size in _SIZES for name in names if os.path.lexists(root / size / name))
    return sorted(found, key=lambda name: _SIZES.index(name.partition("/")[0]))


def _from_home(path: Path) -> str:
    """A path as users write it."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (RuntimeError, ValueError):
        return str(path)


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
