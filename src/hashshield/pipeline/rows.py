"""From results to the rows users read and the details the ledger keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from hashshield.attacks.grid import levels_of
from hashshield.attacks.methods import Method, method
from hashshield.attacks.presets import Preset, preset
from hashshield.imaging.photo import has_credentials
from hashshield.pipeline.places import links_in_name
from hashshield.pipeline.plan import base_fields
from hashshield.pipeline.task import Result
from hashshield.pipeline.twins import TURNED, twins
from hashshield.storage import digest
from hashshield.transforms import CARD, SQUASH
from hashshield.types import Outcome, Receipt, Request
from hashshield.visible import ceiling_of, word

__all__ = ["ceiling_for", "details_of", "kept_of", "method_of", "preset_for", "row_of"]

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
