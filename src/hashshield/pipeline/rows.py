"""The rows that users read: of `protect`, with the details that the ledger keeps, and of `audit`.

Those of `audit` say what a search service finds before and after protection, and what becomes of the other copies of a
photo, which are those that the ledger knows: which of them find each other.
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
"""Of the row of a photo that fell short, what is remembered."""


def kept_of(row: Outcome) -> dict[str, Any]:
    """What is remembered of a photo that fell short."""
    return {name: getattr(row, name) for name in _KEPT}


def method_of(request: Request) -> Method:
    """Return the method asked for, as preset, stopping rule and number of steps have it. Raises UnknownNameError."""
    name = request.method
    if name == "rnm":
        name = "rnm-first" if request.stop == "first" else preset(request.preset).search
    chosen = method(name)
    return chosen if request.steps is None else replace(chosen, steps=request.steps)


def preset_for(request: Request) -> Preset:
    """Return the preset asked for; a copy for a place meets its goal in both views, or a squashed look would link it.

    Raises UnknownNameError.
    """
    found = preset(request.preset)
    return found if request.place_name is None else replace(found, views=(CARD, SQUASH))


def ceiling_for(request: Request) -> float:
    """Return the highest visibility of a protected photo: the one asked for, else the preset's."""
    return preset(request.preset).max_visible if request.max_visible is None else ceiling_of(request.max_visible)


def row_of(result: Result, path: Path, output: Path | None, request: Request) -> Outcome:
    """The row of a worked-on photo, before it is written."""
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
        # A photo from a pipe has no folder.
        unprotected_copies=result.unprotected_copies + (() if path == Path("-") else twins(path)),
        links_to_owner=result.links_to_owner + links_in_name(output or path),
        broken_credentials=status != "short" and has_credentials(result.data),
        **common,
    )


def _why_short(receipt: Receipt, request: Request) -> str:
    if receipt.reached:
        ceiling = ceiling_for(request)
        # Rounded up, so that what it says is enough.
        needed = math.ceil(100 * receipt.visibility) / 100
        return (
            f"the goal is met, but at a visibility of {needed:.2f} ({word(receipt.visibility)}), above the ceiling of "
            f"{ceiling:g} ({word(ceiling)}); --max-visible {needed:.2f} would do"
        )
    # As shares, because a copy detector has more bits than others, and beyond its threshold it has nothing to say.
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
    """What the ledger keeps: enough for `verify` to work without the original, and what a renamed copy was made of."""
    source = {"copy_of": str(Path(row.path).absolute())} if request.rename else {}
    # Which photo the copy is of: a copy that starts from the vault lies beside another file than its original.
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
