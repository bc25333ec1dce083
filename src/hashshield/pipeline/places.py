"""Copies of photos: where each goes and under which name, and the code of its own that each place gets.

No copy takes the place of a photo of the run or of another copy. What a file's name tells about its owner is found, and
names that tell nothing are made.

Copies of one photo for several places do not find each other. A code that `away` draws differs from the original's in
half of the bits. Two independent draws differ from each other in half of them on average only: of 48 bits, four pairs
in ten miss the band of 45 to 55%. So the ledger is asked which codes other places were given for the same original, and
the draw keeps its distance from those too.
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
from typing import TYPE_CHECKING

import numpy as np

from hashshield.arrays import Bits
from hashshield.attacks.goals import away_band
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import from_hex
from hashshield.storage import Record, Store, ignores_case
from hashshield.types import GoalSpec, PlaceRow, Request

if TYPE_CHECKING:
    from hashshield.pipeline.targets import CodeTarget

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
    "place_rows",
    "place_tolerance",
    "protections",
    "require_away",
    "secret_name",
]


_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
# Year first, as cameras and phones write it, with what follows of the time; then day or month first, with separators.
_DATES = (
    re.compile(rf"(?<!\d)(?P<y>{_YEAR})[-_. ]?(?P<m>{_MONTH})[-_. ]?(?P<d>{_DAY})(?!\d(?!\d{{5}}))"),
    re.compile(rf"(?<!\d)(?P<d>{_DAY})[-_. ](?P<m>{_MONTH})[-_. ](?P<y>{_YEAR})(?!\d)"),
    re.compile(rf"(?<!\d)(?P<m>{_MONTH})[-_. ](?P<d>{_DAY})[-_. ](?P<y>{_YEAR})(?!\d)"),
)
_MILLISECONDS = re.compile(r"(?<!\d)1\d{12}(?!\d)")
"""Since 1970, from September 2001 on, as messengers name what they store."""
_FIRST_YEAR = 1990
_DIGITS = 16
"""Hexadecimal digits of a name: among a million copies two are alike with a chance of 3 in 100 million."""


def links_in_name(path: Path) -> tuple[str, ...]:
    """Return what the name of a file tells that can link the photo to its owner: a date, or nothing."""
    dates = (found for pattern in _DATES for found in pattern.finditer(path.stem))
    return ("date in the file name",) if any(map(_is_date, dates)) or _MILLISECONDS.search(path.stem) else ()


def _is_date(found: re.Match[str]) -> bool:
    year, month, day = (int(found[part]) for part in "ymd")
    try:
        return date(year, month, day).year >= _FIRST_YEAR
    except ValueError:
        return False


def secret_name(path: Path, key: bytes) -> str:
    """Return a name for the copy of a file that tells nothing about it but its format.

    It is the same each time for the same path and the same `key`, so that a run that is repeated meets its own copies;
    without the key nobody can tell which path it stands for.
    """
    named = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - as it is named: links stay
    digits = hmac.new(key, b"name of a copy\0" + named, hashlib.sha256).hexdigest()[:_DIGITS]
    # Capitals in an extension tell which camera or program wrote the file.
    return f"{digits}{path.suffix.lower()}"


def copy_place(output: Path, path: Path, within: Path | None, key: bytes | None = None) -> Path:
    """Return where the copy of a file goes: below `output` as it lies below the folder it was met in.

    With a `key` it goes right into `output`, under a name that tells nothing; folders have names that tell, too.
    """
    if key is not None:
        return output / secret_name(path, key)
    return output / (path.name if within is None else path.relative_to(within))


def check_output(paths: Sequence[Path], output: Path) -> None:
    """Refuse an output that is a file, or a folder whose photos are to be copied. Raises UsageError."""
    if os.path.lexists(output) and not output.is_dir():
        raise UsageError(f"--output {output}: is a file; name the folder that is to hold the copies")
    for path in paths:
        if path.is_dir() and (_same(path, output) or os.path.realpath(path) == os.path.realpath(output)):
            raise UsageError(
                f"--output {output}: is the folder of the photos themselves, whose places the copies would take; "
                "name another folder, or leave --output out to protect them in place"
            )


class CopyPlaces:
    """The photos of a run and the places of their copies, compared by file identity and by name.

    Names count as equal when the file system of `output` takes them for one, as those that ignore case do.
    """

    def __init__(self, paths: Sequence[Path], output: Path) -> None:
        """Look at the output folder; raises UsageError as `check_output`."""
        check_output(paths, output)
        self._folds = ignores_case(output)
        self._photos: dict[tuple[int, int], Path] = {}
        self._taken: dict[str, Path] = {}

    def add(self, path: Path, status: tuple[int, int]) -> None:
        """Take a photo of the run, with its device and inode number: no copy may replace it."""
        self._photos[status] = path

    def refusal(self, path: Path, destination: Path) -> str | None:
        """Return why the copy of `path` must not be written to `destination`; None where it may, and is expected then.

        To be asked when all photos of the run have been added.
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
            return f"{path}: its copy would be {destination}, as that of {claimant}; give the two an output folder each"
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
    """What one place is to be given of a photo: a name, and what the ledger knows of the photo's other copies."""

    name: str
    given: Mapping[str, Bits] = field(default_factory=dict)
    """By network, the (K,) code that this place was given before, which it is given again."""
    other_codes: Mapping[str, Sequence[Bits]] = field(default_factory=dict)
    """By network, the (K,) codes of copies for other names, and of the one without a name."""


def checked_place(name: str | None) -> str | None:
    """Return the name of a place in one spelling (NFC, without spaces around it), or None for none.

    Raises UsageError for one that is empty, longer than 100 characters, or that cannot be printed.
    """
    if name is None:
        return None
    found = unicodedata.normalize("NFC", name).strip()
    if not 0 < len(found) <= _LONGEST or not found.isprintable():
        raise UsageError(
            f"--for {name[:_LONGEST]!r}: is no name for a place; give 1 to {_LONGEST} printable characters"
        )
    return found


def place_tolerance(bits: int) -> int:
    """Return how many bits the copy for a place may be off its code, in each view.

    Codes of two places differ in half of the bits; with so many off on either side their copies are still in the band.
    """
    low, high = away_band(bits)
    return (high - low) // 4


def require_away(request: Request) -> None:
    """Raise UsageError where a name is given and the goal leaves nothing to draw by it."""
    if request.place_name is not None and request.goal != GoalSpec():
        raise UsageError(
            f"--for {request.place_name}: draws a code by name, and the goal {request.goal.label} says which code it "
            "is; leave one of the two out"
        )


def original_of(record: Record) -> str:
    """Return the digest of the photo that a row's result was made from."""
    return str(record.details.get("source", record.sha256_before))


def protections(store: Store) -> dict[str, list[Record]]:
    """Return the carried-out protections and copies of the ledger by the original's digest, oldest first.

    Raises StorageError.
    """
    found: dict[str, list[Record]] = {}
    for record in store.ledger.every():
        if record.kind != "restore" and record.state != "intent":
            found.setdefault(original_of(record), []).append(record)
    return found


def other_place(record: Record, request: Request) -> str | None:
    """Return what to do where a result for one place is to be protected for another; None where that is not so."""
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
    """Return what a place is to be given of the photo that `records` are about.

    Of several codes that a place had on a network, of which only another goal or key can be the reason, the newest
    counts; those that other places have or had all count.
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


def place_rows(place_codes: PlaceCodes, targets: Sequence[CodeTarget], bits: Sequence[Bits]) -> Iterator[PlaceRow]:
    """Yield how far each network's (K,) bits of a written photo are from the codes that other places were given."""
    for target, now in zip(targets, bits, strict=True):
        other_codes = place_codes.other_codes.get(target.model, ())
        if len(other_codes):
            nearest = min(int(np.count_nonzero(other != now)) for other in other_codes)
            yield PlaceRow(target.model, len(now), target.view, nearest)


def _drawn(record: Record) -> Iterator[tuple[str, Bits]]:
    """Yield each network with the bits that its result aimed at, which are the same in all views."""
    marks = {str(mark["model"]): mark for mark in record.details.get("marks", ())}
    for model, mark in marks.items():
        yield model, from_hex(mark["wanted"], int(mark["bits"]))
