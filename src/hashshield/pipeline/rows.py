"""From results to the rows users read and the details the ledger keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hashshield.attacks.methods import Method, method
from hashshield.attacks.perturbation import levels_of
from hashshield.attacks.presets import preset
from hashshield.imaging.formats import has_credentials
from hashshield.pipeline.plan import base_fields
from hashshield.pipeline.task import Result
from hashshield.pipeline.twins import TURNED, twins
from hashshield.storage import digest
from hashshield.types import Outcome, Receipt, Request

__all__ = ["details_of", "method_of", "row_of"]


def method_of(request: Request) -> Method:
    """Return the method asked for, as preset, stopping rule and number of steps have it. Raises UnknownNameError."""
    name = request.method
    if name == "rnm":
        name = "rnm-first" if request.stop == "first" else preset(request.preset).search
    chosen = method(name)
    return chosen if request.steps is None else replace(chosen, steps=request.steps)


def row_of(result: Result, path: Path, output: Path | None, request: Request) -> Outcome:
    """The row of a worked-on photo, before it is written."""
    common: dict[str, Any] = {
        **base_fields(path, output, result.source.sha256, request),
        "steps": result.steps,
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
        bits=worst.bits,
        linf_levels=receipt.linf_levels,
        linf_levels_written=receipt.linf_levels_written,
        distance_from_original=nearest.distance_from_original,
        distance_to_goal=worst.distance_to_goal,
        psnr_db=receipt.psnr_db,
        ssim=receipt.ssim,
        sha256_after=digest(result.data) if status != "short" else None,
        codes=receipt.codes,
        survival=receipt.survival,
        witness=receipt.witness,
        perceptual=receipt.perceptual,
        # A photo from a pipe has no folder.
        unprotected_copies=result.unprotected_copies + (() if path == Path("-") else twins(path)),
        links_to_owner=result.links_to_owner,
        broken_credentials=status != "short" and has_credentials(result.data),
        **common,
    )


def _why_short(receipt: Receipt, request: Request) -> str:
    worst = max(receipt.codes, key=lambda row: row.distance_to_goal)
    return (
        f"{worst.model}: the written photo is {worst.distance_to_goal} of {worst.bits} bits from the goal and "
        f"{worst.distance_from_original} from its own code; "
        f"try --steps {2 * method_of(request).steps} or a larger --tau (now {levels_of(request.tau)} levels)"
    )


def details_of(result: Result, row: Outcome, request: Request) -> dict[str, Any]:
    """What the ledger keeps: enough for `verify` to work without the original."""
    return {
        "model": row.model,
        "bits": row.bits,
        "method": row.method,
        "preset": row.preset,
        "goal": row.goal,
        "tau": row.tau,
        "tolerance": request.tolerance,
        "status": row.status,
        "orientation": result.orientation,
        "marks": [target.as_details() for target in result.targets],
    }
