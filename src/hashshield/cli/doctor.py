"""`hashshield doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from hashshield.cli import options as o
from hashshield.cli.output import Column, Layout, Report
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.terminal import count

if TYPE_CHECKING:
    from hashshield.types import Finding

__all__ = ["EXAMPLES", "doctor"]

EXAMPLES = o.examples("hashshield doctor", "hashshield doctor --thorough --json   # reads every original back")


def _footer(rows: Sequence[Finding]) -> list[str]:
    failed, warned = (sum(row.status == status for row in rows) for status in ("failed", "warning"))
    if not rows:
        return []
    if failed or warned:
        return [f"{count(failed, 'problem')}, {count(warned, 'warning')}."]
    return ["All is well."]


_DOCTOR = Layout(
    columns=(
        Column("Check", lambda row: row.check),
        Column("Status", lambda row: row.status),
        Column("Found", lambda row: row.found),
        Column("What to do", lambda row: row.advice or ""),
    ),
    footer=_footer,
    summary=lambda rows: {"counts": {s: sum(r.status == s for r in rows) for s in ("ok", "warning", "failed")}},
)


def doctor(
    thorough: Annotated[
        bool, o.switch("--thorough", text="Read every original back, however long it takes.", panel=o.FILES)
    ] = False,
    vault: o.Vault = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check what a run needs: versions, processor, settings, networks, cache, vault; and protect a small test picture.

    Nothing is changed. The exit code is 1 if something would make a run fail; each finding says what to do.
    """
    with Report("doctor", _DOCTOR, as_json=as_json) as report:
        from hashshield.pipeline import doctor as checks

        with PhotoProgress(report) as progress:
            found = checks.doctor(vault, thorough=thorough, progress=progress)
        # Problems are the result of this command, so --quiet leaves out only what is in order.
        report.finish([row for row in found if row.status != "ok"] if quiet else found)
