"""The rows of `audit`: what a search service finds before and after protection, and what becomes of the other copies.

Other copies of the photo are those that the ledger knows: which of them find each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits, Distances
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.retrieval import bits_of, rank_among
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.places import protections
from hashshield.pipeline.receipt import card_views, codes_of
from hashshield.storage import Store

__all__ = [
    "Audit",
    "CopyPair",
    "HashedCopy",
    "Neighbour",
    "OtherCopy",
    "SemanticMatch",
    "found_copies",
    "hashed_copies",
    "listed_copies",
]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One photo of a gallery, as two searches see it: with the original (before) and with the protected photo."""

    path: str
    distance_before: int
    rank_before: int
    """One more than how many photos of the gallery are nearer."""
    distance_after: int
    rank_after: int


@dataclass(frozen=True, slots=True)
class OtherCopy:
    """Another protected copy of the photo that is audited, as a search with the audited one sees it."""

    path: str
    place_name: str | None
    """Name that it was made for; None without one."""
    distance: int | None = None
    """Bits between the two copies."""
    rank: int | None = None
    """Where the search finds it, were it in the gallery; ties count as found first."""
    matches: bool | None = None
    """Whether the two are within the threshold: then one upload leads to the other."""
    reason: str | None = None
    """Why it was not looked at; the three above are then None."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One row of `audit`: what a search service on one network finds, or a file it has no code of."""

    path: str
    """The protected photo; of other rows, the file they are about."""
    status: Literal["audited", "unknown", "skipped", "failed"]
    reason: str | None = None
    original: str | None = None
    """The file that was given, or `the vault`."""
    model: str | None = None
    bits: int | None = None
    gallery: int | None = None
    """How many photos are searched among; neither of the two is one of them."""
    threshold: int | None = None
    """Bits up to which a photo counts as a match."""
    distance: int | None = None
    """Bits between original and protected photo."""
    original_rank: int | None = None
    """Where a search with the protected photo finds the original, were it in the gallery; ties count as found first."""
    protected_rank: int | None = None
    """Where a search with the original finds the protected photo."""
    within_before: int | None = None
    """Photos of the gallery that match the original."""
    within_after: int | None = None
    """Photos of the gallery that match the protected photo."""
    shared: int | None = None
    """How many of the nearest are the same before and after."""
    nearest_before: tuple[Neighbour, ...] = ()
    nearest_after: tuple[Neighbour, ...] = ()
    copies: tuple[OtherCopy, ...] = ()
    """Its other copies, as far as the ledger knows them."""


@dataclass(frozen=True, slots=True)
class CopyPair:
    """One row of `audit --copies`: a copy that was found of a photo, or a file that was not looked at."""

    path: str
    """The photo; of other rows, the file they are about."""
    status: Literal["copy", "skipped", "failed"]
    reason: str | None = None
    copy: str | None = None
    """The file that is taken for a copy of it."""
    model: str | None = None
    """The copy detector."""
    cosine: float | None = None
    """Of the two embeddings."""
    cosine_threshold: float | None = None
    """From which on a pair is a copy; None where a distance in bits was given for that."""
    bits: int | None = None
    distance: int | None = None
    """Bits between the detector's codes."""
    within: int | None = None
    """Bits up to which its codes count as one photo."""
    semantic: tuple[SemanticMatch, ...] = ()
    """What networks say that tell what a photo shows."""
    pdq_distance: int | None = None
    """Of 256 bits; None where the package pdqhash is not installed."""
    pdq_match: bool | None = None
    """Whether PDQ takes them for one, at 31 bits."""
    pdq_within: int | None = None
    """Bits of PDQ up to which a pair is a copy, whatever the detector says; None where PDQ decides nothing."""


@dataclass(frozen=True, slots=True)
class SemanticMatch:
    """What a network of semantic codes says of a pair."""

    model: str
    bits: int
    distance: int
    match: bool
    """Whether an eighth of the code or less differs."""


class HashedCopy(NamedTuple):
    """Another copy of the audited photo; without codes, and with a reason, where its file is gone or changed."""

    path: Path
    place_name: str | None
    codes: tuple[Bits, ...]
    """(K,) per network."""
    reason: str | None


def listed_copies(original: str, audited: str, store: Store) -> list[tuple[Path, str | None, str]]:
    """Return path, place and digest of the other results that the ledger has of an original, oldest first.

    `original` and `audited` are digests. A path that was written several times counts as what was written last. Raises
    StorageError.
    """
    found: dict[Path, tuple[Path, str | None, str]] = {}
    for record in protections(store).get(original, ()):
        if record.state == "done":
            found[record.path] = (record.path, record.details.get("place_name"), record.sha256_after)
    return [copy for copy in found.values() if copy[2] != audited]


@torch.inference_mode()
def hashed_copies(copies: Sequence[tuple[Path, str | None, str]], models: Sequence[OpenModel]) -> Iterator[HashedCopy]:
    """Yield the copies with their codes, one photo in memory at a time."""
    for path, place_name, sha256 in copies:
        try:
            with boundary("decode", str(path)):
                snapshot = read_photo_file(path, follow=True)
                if snapshot.sha256 != sha256:
                    yield HashedCopy(path, place_name, (), "changed since it was protected")
                    continue
                image = Image.fromarray(displayed_rgb(imaging.read(snapshot.data, name=str(path))))
        except HashshieldError as error:
            yield HashedCopy(path, place_name, (), str(error))
            continue
        codes = codes_of(card_views(image, models), models)
        yield HashedCopy(path, place_name, tuple(bits_of(code) for code in codes), None)


def found_copies(
    copies: Sequence[HashedCopy], number: int, bits: Bits, gallery: Distances, threshold: int
) -> tuple[OtherCopy, ...]:
    """Return where a search with the audited photo's (K,) `bits` on network `number` finds the other copies.

    `gallery` are its (N,) distances from the photos that are searched among.
    """
    rows = []
    for copy in copies:
        if copy.reason is not None:
            rows.append(OtherCopy(str(copy.path), copy.place_name, reason=copy.reason))
            continue
        distance = int(np.count_nonzero(copy.codes[number] != bits))
        rank = int(rank_among(np.array([distance]), gallery)[0])
        rows.append(OtherCopy(str(copy.path), copy.place_name, distance, rank, distance <= threshold))
    return tuple(rows)
