"""Rows of results: those of `protect`, with the details that the ledger stores, and those of `audit`.

A row of `audit` says what a search service finds before and after protection, and which other copies of the photo that
the ledger knows find each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits, Distances
from hashshield.attacks.grid import levels_of
from hashshield.attacks.methods import Method, method
from hashshield.attacks.presets import Preset, preset
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError
from hashshield.imaging.photo import has_credentials, read_photo_file
from hashshield.metrics.retrieval import bits_of, rank_among
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.places import links_in_name, protections
from hashshield.pipeline.plan import base_fields
from hashshield.pipeline.receipt import card_views, codes_of
from hashshield.pipeline.task import Result
from hashshield.pipeline.twins import TURNED, twins
from hashshield.storage import Store, digest
from hashshield.transforms import CARD, SQUASH
from hashshield.types import Outcome, Receipt, Request
from hashshield.visible import ceiling_of, word

__all__ = [
    "Audit",
    "CopyPair",
    "HashedCopy",
    "Neighbour",
    "OtherCopy",
    "SemanticMatch",
    "ceiling_for",
    "details_of",
    "found_copies",
    "hashed_copies",
    "kept_of",
    "listed_copies",
    "method_of",
    "preset_for",
    "row_of",
]

_KEPT = (
    "reason",
    "bits",
    "linf_levels",
    "linf_levels_written",
    "distance_from_original",
    "distance_to_goal",
    "visibility",
    "visibility_word",
    "max_visible",
    "psnr_db",
    "ssim",
)
"""Fields of the row of a photo that fell short which are remembered."""


def kept_of(row: Outcome) -> dict[str, Any]:
    """Return the fields to remember of a photo that fell short."""
    return {name: getattr(row, name) for name in _KEPT}


def method_of(request: Request) -> Method:
    """Return the requested method, with preset, stopping rule and number of steps applied. Raises UnknownNameError."""
    name = request.method
    if name == "rnm":
        name = "rnm-first" if request.stop == "first" else preset(request.preset).search
    chosen = method(name)
    return chosen if request.steps is None else replace(chosen, steps=request.steps)


def preset_for(request: Request) -> Preset:
    """Return the requested preset. A copy for a place must meet its goal in both views, so it gets both.

    Raises UnknownNameError.
    """
    found = preset(request.preset)
    return found if request.place_name is None else replace(found, views=(CARD, SQUASH))


def ceiling_for(request: Request) -> float:
    """Return the ceiling: the highest visibility of a protected photo, as requested or else the preset's."""
    return preset(request.preset).max_visible if request.max_visible is None else ceiling_of(request.max_visible)


def row_of(result: Result, path: Path, output: Path | None, request: Request) -> Outcome:
    """Return the row of a processed photo, before it is written."""
    common: dict[str, Any] = {
        **base_fields(path, output, result.source.sha256, request),
        "max_visible": ceiling_for(request),
        "steps": result.steps,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 3),
    }
    receipt = result.receipt
    if result.reoriented:
        return Outcome(status="short", reason=TURNED, **common)
    if receipt is None or result.data is None:
        return Outcome(status="failed", reason=result.reason, **common)
    worst = max(receipt.codes, key=lambda row: row.distance_to_goal)
    nearest = min(receipt.codes, key=lambda row: row.distance_from_original)
    status: Any = "protected" if receipt.passed else "partial" if request.accept_best else "short"
    return Outcome(
        status=status,
        reason=None if receipt.passed else _why_short(receipt, request),
        bits=nearest.bits,
        linf_levels=receipt.linf_levels,
        linf_levels_written=receipt.linf_levels_written,
        distance_from_original=nearest.distance_from_original,
        distance_to_goal=worst.distance_to_goal,
        visibility=receipt.visibility,
        visibility_word=word(receipt.visibility),
        psnr_db=receipt.psnr_db,
        ssim=receipt.ssim,
        sha256_after=digest(result.data) if status != "short" else None,
        codes=receipt.codes,
        survival=receipt.survival,
        surrogates=receipt.surrogates,
        witness=receipt.witness,
        no_witness=receipt.no_witness,
        perceptual=receipt.perceptual,
        places=receipt.places,
        # A photo read from a pipe has no folder to look in.
        unprotected_copies=result.unprotected_copies + (() if path == Path("-") else twins(path)),
        links_to_owner=result.links_to_owner + links_in_name(output or path),
        broken_credentials=status != "short" and has_credentials(result.data),
        **common,
    )


def _why_short(receipt: Receipt, request: Request) -> str:
    if receipt.reached:
        ceiling = ceiling_for(request)
        # Rounded up, so that the value named suffices.
        needed = math.ceil(100 * receipt.visibility) / 100
        return (
            f"the goal is met, but at a visibility of {needed:.2f} ({word(receipt.visibility)}), above the ceiling of "
            f"{ceiling:g} ({word(ceiling)}); --max-visible {needed:.2f} would do"
        )
    # As shares, because a copy detector has more bits. Far beyond its threshold its distance to the goal is irrelevant.
    beyond = [row for row in receipt.codes if row.cosine is None or row.distance_from_original < row.bits // 4]
    worst = max(beyond or receipt.codes, key=lambda row: row.distance_to_goal / row.bits)
    linked = max(receipt.codes, key=lambda row: (row.cosine or -1.0) - (row.cosine_threshold or 0.0))
    if linked.cosine is not None and linked.cosine >= (linked.cosine_threshold or 0.0):
        return (
            f"{linked.model}: the written photo's features have a cosine of {linked.cosine:.2f} to its own, and from "
            f"{linked.cosine_threshold} on they count as one photo; try --steps {2 * method_of(request).steps}"
        )
    return (
        f"{worst.model}: the written photo is {worst.distance_to_goal} of {worst.bits} bits from the goal and "
        f"{worst.distance_from_original} from its own code; "
        f"try --steps {2 * method_of(request).steps} or a larger --tau (now {levels_of(request.tau)} levels)"
    )


def details_of(result: Result, row: Outcome, request: Request) -> dict[str, Any]:
    """Return what the ledger stores: enough for `verify` without the original, and the source of a renamed copy."""
    source = {"copy_of": str(Path(row.path).absolute())} if request.rename else {}
    # The original's digest, because a copy made from the vault is not made from the file at the row's path.
    named = {} if request.place_name is None else {"place_name": request.place_name, "source": result.source.sha256}
    return {
        **source,
        **named,
        "model": row.model,
        "bits": row.bits,
        "method": row.method,
        "preset": row.preset,
        "goal": row.goal,
        "tau": row.tau,
        "max_visible": row.max_visible,
        "visibility": row.visibility,
        "tolerance": request.tolerance,
        "status": row.status,
        "orientation": result.orientation,
        "marks": [target.as_details() for target in result.targets],
    }


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One photo of a gallery in two searches: with the original (before) and with the protected photo (after)."""

    path: str
    distance_before: int
    rank_before: int
    """1 plus the number of gallery photos that are nearer."""
    distance_after: int
    rank_after: int


@dataclass(frozen=True, slots=True)
class OtherCopy:
    """Another protected copy of the audited photo, and where a search with the audited one finds it."""

    path: str
    place_name: str | None
    """The place that it was made for, if any."""
    distance: int | None = None
    """Bits between the two copies."""
    rank: int | None = None
    """Its rank in the search if it were in the gallery; among ties it counts as first."""
    matches: bool | None = None
    """Whether the distance is within the threshold, so that one upload leads to the other."""
    reason: str | None = None
    """Why it was not compared; then distance, rank and matches are None."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One row of `audit`: what a search service finds with one network, or a file that could not be hashed."""

    path: str
    """The protected photo, or the file that could not be hashed."""
    status: Literal["audited", "unknown", "skipped", "failed"]
    reason: str | None = None
    original: str | None = None
    """Path of the original, or `the vault`."""
    model: str | None = None
    bits: int | None = None
    gallery: int | None = None
    """Number of photos searched; original and protected photo are not among them."""
    threshold: int | None = None
    """Distance in bits up to which a photo counts as a match."""
    distance: int | None = None
    """Bits between original and protected photo."""
    original_rank: int | None = None
    """Rank of the original in a search with the protected photo, if it were in the gallery; first among ties."""
    protected_rank: int | None = None
    """Rank of the protected photo in a search with the original, likewise."""
    within_before: int | None = None
    """Number of gallery photos that match the original."""
    within_after: int | None = None
    """Number of gallery photos that match the protected photo."""
    shared: int | None = None
    """Number of nearest photos that are the same before and after."""
    nearest_before: tuple[Neighbour, ...] = ()
    nearest_after: tuple[Neighbour, ...] = ()
    copies: tuple[OtherCopy, ...] = ()
    """The photo's other copies in the ledger."""


@dataclass(frozen=True, slots=True)
class CopyPair:
    """One row of `audit --copies`: a copy found of a photo, or a file that could not be compared."""

    path: str
    """The photo, or the file that could not be compared."""
    status: Literal["copy", "skipped", "failed"]
    reason: str | None = None
    copy: str | None = None
    """The file that counts as a copy of it."""
    model: str | None = None
    """The copy detector."""
    cosine: float | None = None
    """Cosine of the two embeddings, -1 to 1."""
    cosine_threshold: float | None = None
    """Least cosine of a copy; None if a distance in bits was given instead."""
    bits: int | None = None
    distance: int | None = None
    """Bits between the detector's codes."""
    within: int | None = None
    """Distance up to which the detector's codes count as the same photo."""
    semantic: tuple[SemanticMatch, ...] = ()
    """The results of networks whose codes describe what a photo shows."""
    pdq_distance: int | None = None
    """Distance of the PDQ hashes, of 256 bits; None if the package pdqhash is not installed."""
    pdq_match: bool | None = None
    """Whether the PDQ distance is at most 31, the publisher's threshold."""
    pdq_within: int | None = None
    """PDQ distance up to which a pair is a copy whatever the detector says; None if PDQ is not used."""


@dataclass(frozen=True, slots=True)
class SemanticMatch:
    """A pair's distance on a network of semantic codes."""

    model: str
    bits: int
    distance: int
    match: bool
    """Whether at most an eighth of the bits differ."""


class HashedCopy(NamedTuple):
    """Another copy of the audited photo; if its file is gone or changed it has a reason instead of codes."""

    path: Path
    place_name: str | None
    codes: tuple[Bits, ...]
    """(K,) per network."""
    reason: str | None


def listed_copies(original: str, audited: str, store: Store) -> list[tuple[Path, str | None, str]]:
    """Return (path, place, SHA-256) of the ledger's other results of an original, oldest first.

    `original` and `audited` are SHA-256 digests. Of a path that was written several times the last result counts.
    Raises StorageError.
    """
    found: dict[Path, tuple[Path, str | None, str]] = {}
    for record in protections(store).get(original, ()):
        if record.state == "done":
            found[record.path] = (record.path, record.details.get("place_name"), record.sha256_after)
    return [copy for copy in found.values() if copy[2] != audited]


@torch.inference_mode()
def hashed_copies(copies: Sequence[tuple[Path, str | None, str]], models: Sequence[OpenModel]) -> Iterator[HashedCopy]:
    """Yield the copies with their codes; one photo is in memory at a time."""
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

    `gallery` holds the (N,) distances of the gallery's photos from these bits.
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
