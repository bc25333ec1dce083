"""Copies of photos: their paths and names, and a code of its own for each place.

`CopyPlaces` prevents a copy from overwriting a photo of the run or another copy. `links_in_name` finds dates in file
names, and `secret_name` makes names that tell nothing.

Copies of one photo for different places must not find each other. `away` draws a code that differs from the original's
in half of the bits, but two independent draws differ in half of them only on average: of 48 bits, four pairs in ten
miss the band of 45 to 55%. So the draw for a place also keeps its distance from the codes that the ledger has for the
photo's other places.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from hashshield.arrays import Bits
from hashshield.attacks.goals import away_band
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import from_hex
from hashshield.paths import is_folder, trouble
from hashshield.storage import Record, Store, ignores_case
from hashshield.storage.calls import explain
from hashshield.types import GoalSpec, Request

__all__ = [
    "CopyPlaces",
    "PlaceCodes",
    "check_output",
    "checked_place",
    "codes_of_place",
    "copy_place",
    "links_in_name",
    "original_of",
    "other_place",
    "place_tolerance",
    "protections",
    "require_away",
    "secret_name",
]


_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
# Year first, as cameras and phones write it, maybe followed by a time; then day or month first, with separators.
_DATES = (
    re.compile(rf"(?<!\d)(?P<y>{_YEAR})[-_. ]?(?P<m>{_MONTH})[-_. ]?(?P<d>{_DAY})(?!\d(?!\d{{5}}))"),
    re.compile(rf"(?<!\d)(?P<d>{_DAY})[-_. ](?P<m>{_MONTH})[-_. ](?P<y>{_YEAR})(?!\d)"),
    re.compile(rf"(?<!\d)(?P<m>{_MONTH})[-_. ](?P<d>{_DAY})[-_. ](?P<y>{_YEAR})(?!\d)"),
)
_MILLISECONDS = re.compile(r"(?<!\d)1\d{12}(?!\d)")
"""Unix time in milliseconds, from September 2001 on, as messengers name their files."""
_FIRST_YEAR = 1990
_DIGITS = 16
"""Hexadecimal digits of a name: among a million copies, two collide with a probability of 3 in 100 million."""


def links_in_name(path: Path) -> tuple[str, ...]:
    """Return what in a file's name can link the photo to its owner: a date, or nothing."""
    dates = (found for pattern in _DATES for found in pattern.finditer(path.stem))
    return ("date in the file name",) if any(map(_is_date, dates)) or _MILLISECONDS.search(path.stem) else ()


def _is_date(found: re.Match[str]) -> bool:
    year, month, day = (int(found[part]) for part in "ymd")
    try:
        return date(year, month, day).year >= _FIRST_YEAR
    except ValueError:
        return False


def secret_name(path: Path, key: bytes) -> str:
    """Return a name for the copy of a file that reveals only its format.

    The same path and `key` always give the same name, so that a repeated run finds its own copies. Without the key the
    path cannot be recovered.
    """
    named = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - as it is named: links stay
    digits = hmac.new(key, b"name of a copy\0" + named, hashlib.sha256).hexdigest()[:_DIGITS]
    # A capitalised extension can reveal the camera or program that wrote the file.
    return f"{digits}{path.suffix.lower()}"


def copy_place(output: Path, path: Path, within: Path | None, key: bytes | None = None) -> Path:
    """Return the path of a file's copy in `output`; a file found in the folder `within` keeps its relative path.

    With a `key` it goes directly into `output` under a `secret_name`, because folder names reveal something too.
    """
    if key is not None:
        return output / secret_name(path, key)
    return output / (path.name if within is None else path.relative_to(within))


def check_output(paths: Sequence[Path], output: Path) -> None:
    """Raise UsageError if `output` is a file, unusable, or one of the folders whose photos are to be copied."""
    error = trouble(output)
    if error is not None:
        raise UsageError(f"--output {output}: {explain(error)}; name another folder")
    if os.path.lexists(output) and not is_folder(output):
        raise UsageError(f"--output {output}: is a file; name the folder that is to hold the copies")
    for path in paths:
        if is_folder(path) and (_same(path, output) or os.path.realpath(path) == os.path.realpath(output)):
            raise UsageError(
                f"--output {output}: is the folder of the photos themselves, whose places the copies would take; "
                "name another folder, or leave --output out to protect them in place"
            )


class CopyPlaces:
    """The photos of a run and the paths of their copies, to find conflicts.

    Photos are compared by device and inode, copies by path; case is ignored if the file system of `output` does.
    """

    def __init__(self, paths: Sequence[Path], output: Path) -> None:
        """Check the output folder. Raises UsageError as `check_output` does."""
        check_output(paths, output)
        self._folds = ignores_case(output)
        self._photos: dict[tuple[int, int], Path] = {}
        self._taken: dict[str, Path] = {}

    def add(self, path: Path, status: tuple[int, int]) -> None:
        """Add a photo of the run, with its (device, inode): no copy may replace it."""
        self._photos[status] = path

    def refusal(self, path: Path, destination: Path) -> str | None:
        """Return why the copy of `path` must not be written to `destination`; None if it may.

        If it may, `destination` is reserved for it. Call this after all photos of the run were added.
        """
        try:
            there = destination.stat()
        except (OSError, ValueError):
            photo = None
        else:
            photo = self._photos.get((there.st_dev, there.st_ino))
        if photo is not None:
            whose = "the photo itself" if photo == path else f"{photo}, a photo of this run"
            return f"{path}: its copy would take the place of {whose}; name another folder with --output"
        claimant = self._taken.setdefault(self._key(destination), path)
        if claimant != path:
            return f"{path}: its copy would be {destination}, like that of {claimant}; give each its own output folder"
        return None

    def _key(self, destination: Path) -> str:
        real = os.path.realpath(destination)
        return unicodedata.normalize("NFC", real).casefold() if self._folds else real


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


_LONGEST = 100


@dataclass(frozen=True, slots=True, eq=False)
class PlaceCodes:
    """A place, and the codes of a photo's copies for it and for other places."""

    name: str
    given: Mapping[str, Bits] = field(default_factory=dict)
    """Network -> (K,) target bits of an earlier copy for this place, to be used again."""
    other_codes: Mapping[str, Sequence[Bits]] = field(default_factory=dict)
    """Network -> (K,) target bits of copies for other places, or for none."""

    def nearest_other(self, model: str, bits: Bits) -> int | None:
        """Return the distance of (K,) bits to the nearest code of another place on that network; None without one."""
        return min((int(np.count_nonzero(other != bits)) for other in self.other_codes.get(model, ())), default=None)


def checked_place(name: str | None) -> str | None:
    """Return the normalised name of a place (NFC, stripped), or None for None.

    Raises UsageError for a name that is empty, longer than 100 characters or not printable.
    """
    if name is None:
        return None
    found = unicodedata.normalize("NFC", name).strip()
    if not 0 < len(found) <= _LONGEST or not found.isprintable():
        raise UsageError(
            f"--for {name[:_LONGEST]!r}: is not a valid name for a place; give 1 to {_LONGEST} printable characters"
        )
    return found


def place_tolerance(bits: int) -> int:
    """Return how many bits the copy for a place may be off its code, in each view: a quarter of the band's width.

    Codes of two places differ in half of the bits, so two copies that are each off by that many still differ by a
    distance in the band.
    """
    low, high = away_band(bits)
    return (high - low) // 4


def require_away(request: Request) -> None:
    """Raise UsageError if a place is named and the goal is not `away`, the only one that draws a code by name."""
    if request.place_name is not None and request.goal != GoalSpec():
        raise UsageError(
            f"--for {request.place_name}: draws a code by name, and the goal {request.goal.label} says which code it "
            "is; leave one of the two out"
        )


def original_of(record: Record) -> str:
    """Return the SHA-256 of the original from which a ledger row's result was made."""
    return str(record.details.get("source", record.sha256_before))


def protections(store: Store) -> dict[str, list[Record]]:
    """Return the ledger's completed protections and copies by the original's SHA-256, oldest first.

    Raises StorageError.
    """
    found: dict[str, list[Record]] = {}
    for record in store.ledger.every():
        if record.kind != "restore" and record.state != "intent":
            found.setdefault(original_of(record), []).append(record)
    return found


def other_place(record: Record, request: Request) -> str | None:
    """Return what to do if the request's place is not the one that a result was made for; None if it is."""
    was = record.details.get("place_name")
    if request.place_name is None or request.place_name == was:
        return None
    for_whom = "without a name" if was is None else f"for {was}"
    if record.kind == "copy":
        return (
            f"is a copy protected {for_whom}; for {request.place_name} protect the original, into a folder of its own"
        )
    if not record.restorable:
        return f"protected {for_whom}, and no original is kept: there is nothing to protect for {request.place_name}"
    if request.output is not None:
        return f"protected {for_whom}; --force makes the copy for {request.place_name} from the original in the vault"
    return (
        f"protected {for_whom}; --force --output DIR makes a copy for {request.place_name} from the original in the "
        "vault"
    )


def codes_of_place(name: str, records: Iterable[Record]) -> PlaceCodes:
    """Return the place codes of the photo that `records`, its ledger rows, are about.

    If a place had several codes on a network, as after a change of goal or key, the newest counts. Of other places all
    codes count.
    """
    given: dict[str, Bits] = {}
    other_codes: dict[str, list[Bits]] = {}
    for record in records:
        for model, wanted in _drawn(record):
            if record.details.get("place_name") == name:
                given[model] = wanted
            elif not any((wanted == other).all() for other in other_codes.setdefault(model, [])):
                other_codes[model].append(wanted)
    return PlaceCodes(name, given, other_codes)


def _drawn(record: Record) -> Iterator[tuple[str, Bits]]:
    """Yield each network of a ledger row with its target bits, which are the same in all views."""
    marks = {str(mark["model"]): mark for mark in record.details.get("marks", ())}
    for model, mark in marks.items():
        yield model, from_hex(mark["wanted"], int(mark["bits"]))
