"""What a fleet is to do, decided without reading a single photo: that is the workers' part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hashshield.errors import UsageError
from hashshield.fleet import manifest
from hashshield.fleet.manifest import Batch, ManifestRow, photo_of
from hashshield.pipeline.copy_places import CopyPlaces, check_output, copy_place
from hashshield.pipeline.plan import Job, files, may_copy, settings_mismatch
from hashshield.storage import Store
from hashshield.types import Outcome, Request

__all__ = ["batches_of", "check_places", "listed", "settled_before"]

_BATCHES_PER_WORKER = 16
"""At least, where there are photos enough: the last ones then finish at about the same time."""
_SMALLEST, _LARGEST = 8, 512
"""Photos of a batch: fewer leave the search half empty, more are much to do again."""


def check_places(paths: Sequence[Path], output: Path) -> None:
    """Refuse an output folder that overlaps with what is read, or holds what no such run wrote. Raises UsageError."""
    check_output(paths, output)
    real = Path(os.path.realpath(output))
    for path in paths:
        given = Path(os.path.realpath(path))
        if real.is_relative_to(given) or given.is_relative_to(real):
            raise UsageError(f"--output {output}: overlaps with {path}; name a folder apart from the photos")
    if not output.exists():
        return
    if not (output / manifest.FOLDER).is_dir() and any(output.iterdir()):
        raise UsageError(
            f"--output {output}: holds files but no {manifest.FOLDER}, so no earlier run wrote them; name a new folder"
        )


def listed(paths: Sequence[Path], request: Request, store: Store) -> tuple[list[Job], list[Outcome]]:
    """A job for every file, and a row for what cannot be one; nothing is read but folders."""
    assert request.output is not None
    resolved: list[Outcome] = []
    jobs: dict[Path, Job] = {}
    known_files: dict[tuple[int, int], Path] = {}
    copies = CopyPlaces(paths, request.output)
    for path, within in files(paths, request, store, resolved):
        try:
            status = path.stat(follow_symlinks=within is None)
        except OSError as error:
            resolved.append(Outcome(str(path), "failed", reason=f"{path}: cannot be read: {error.strerror}"))
            continue
        same = known_files.setdefault((status.st_dev, status.st_ino), path)
        copies.add(same, (status.st_dev, status.st_ino))
        if same != path:
            resolved.append(Outcome(str(path), "skipped", reason=f"the same file as {same}"))
        else:
            jobs[path] = Job(path, within, status.st_size, copy_place(request.output, path, within))
    return [job for job in jobs.values() if may_copy(job, copies, resolved)], resolved


def settled_before(
    jobs: Sequence[Job], known: Mapping[str, tuple[str, ManifestRow]], request: Request
) -> dict[Path, Outcome]:
    """The rows of photos that the manifest has; what failed then is tried again."""
    assert request.output is not None
    rows = {}
    for job in jobs:
        _, entry = known.get(photo_of(job, request.output), (None, None))
        if entry is not None and entry.outcome.status != "failed":
            rows[job.path] = _again(entry.outcome, request)
    return rows


def _again(row: Outcome, request: Request) -> Outcome:
    """The row of a photo of which an earlier run has one."""
    if row.status in ("protected", "partial"):
        details = {"model": row.model, "goal": row.goal, "tau": row.tau, "method": row.method}
        reason = settings_mismatch(details, request, "another output folder starts again")
        return replace(row, status="already", reason=reason)
    again = "tried before: another output folder tries again"
    return replace(row, reason=f"{row.reason} ({again})") if row.status == "short" else row


def batches_of(
    jobs: Sequence[Job], known: Mapping[str, tuple[str, ManifestRow]], output: Path, *, workers: int
) -> list[Batch]:
    """Batches for so many workers; photos that have a row already stay in its part."""
    new: list[Job] = []
    parts: dict[str, list[Job]] = {}
    for job in jobs:
        photo = photo_of(job, output)
        if photo in known:
            parts.setdefault(known[photo][0], []).append(job)
        else:
            new.append(job)
    size = min(max(len(new) // (workers * _BATCHES_PER_WORKER), _SMALLEST), _LARGEST)
    for first in range(0, len(new), size):
        batch = new[first : first + size]
        parts[manifest.part_name(photo_of(job, output) for job in batch)] = batch
    return [Batch(part, tuple(found)) for part, found in parts.items()]
