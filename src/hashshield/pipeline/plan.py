"""Decide which files need work, without torch and without writing: `plan` from their bytes, `prefilter` decoded.

Attempts that fell short are remembered, because the same search would fall short again. The photo, the key and the
settings determine a search. `asked_now` digests the last two together with the versions of search and libraries, so
that an update of HashShield tries again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hashshield import imaging
from hashshield.attacks import SEARCH_VERSION
from hashshield.boundary import boundary
from hashshield.checkpoints.catalog import full_name, resolve
from hashshield.errors import HashshieldError, NotAPhotoError, UnsupportedError
from hashshield.imaging.photo import has_credentials, read_photo_file
from hashshield.pipeline.places import CopyPlaces, copy_place, other_place
from hashshield.pipeline.twins import TURNED, Results, earlier_result, results_of
from hashshield.storage import FOREIGN, FileKey, Record, Snapshot, Store, digest, file_key, named, walk
from hashshield.types import Outcome, Request
from hashshield.visible import word

__all__ = [
    "CREDENTIALS",
    "EarlierAttempts",
    "Job",
    "Plan",
    "already_row",
    "asked_now",
    "base_fields",
    "credentials_notice",
    "files",
    "may_copy",
    "model_names",
    "open_photo",
    "plan",
    "prefilter",
    "read_photo",
    "settings_mismatch",
    "text_of",
]

_TOLD = ("model", "bits", "method", "preset", "goal", "place_name", "tau", "visibility")
"""Ledger fields that the row of an earlier result repeats."""
_LIBRARIES = ("hashshield", "numpy", "pillow", "torch", "torchvision")
"""Distributions whose version may change the result of a search."""


class EarlierAttempts:
    """Attempts of earlier runs with the settings of this one."""

    def __init__(self, request: Request, store: Store) -> None:
        self._request, self._store = request, store
        self._settings: str | None = None

    def before(self, sha256: str) -> Mapping[str, Any] | None:
        """Return the row fields of a photo that fell short before; None if it should be tried again."""
        attempts = self._store.ledger.attempts
        if self._request.force or self._request.accept_best or not attempts.about(sha256):
            return None
        if self._settings is None:
            self._settings = asked_now(self._request, self._store.key())
        remembered = attempts.find(sha256, self._settings)
        if remembered is None:
            return None
        again = "same settings as before: nothing new was tried; --force tries again"
        return {**remembered, "reason": f"{remembered['reason']} ({again})"}


def asked_now(request: Request, key: bytes) -> str:
    """Return the digest of everything besides the photo that determines a search's result.

    Raises UnknownNameError, CheckpointError.
    """
    goal = request.goal
    asked = {
        "models": [(full_name(name), _checkpoint(name)) for name in request.models],
        "goal": (goal.kind, goal.value, _target(goal.value) if goal.kind in ("image", "set") else None),
        "method": (request.method, request.preset, request.stop, request.steps),
        "tau": request.tau,
        "max_visible": request.max_visible,
        "tolerance": request.tolerance,
        # These hardly affect the result, but a user who changes one wants a new try.
        "device": (request.device, request.batch_size),
        "key": key.hex() if request.seed is None else request.seed,
        "search": SEARCH_VERSION,
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }
    if request.place_name is not None:
        # Added only if set, so that attempts remembered without a place stay valid.
        asked["place_name"] = request.place_name
    return digest(json.dumps(asked, sort_keys=True).encode())


def _checkpoint(name: str) -> str:
    reference = resolve(name)
    return reference.entry.sha256 if reference.entry is not None else _content(reference.path)


def _target(value: str | None) -> list[str]:
    """Return the digests of a target's photos: one photo, or all files of a folder."""
    path = Path(str(value))
    return sorted(map(_photo, walk(path) if path.is_dir() else [path]))


def _photo(path: Path) -> str:
    """Return the digest of a photo, or the path of any other file, which is never read as a target."""
    try:
        return read_photo_file(path, follow=True).sha256
    except HashshieldError:
        return str(path)


def _content(path: Path) -> str:
    """Return the digest of a file, or its path if it cannot be read; opening it for the search reports the error."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return str(path)


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        # Run from a source tree that was never installed.
        return "unknown"


@dataclass(frozen=True, slots=True)
class Job:
    """One photo to protect."""

    path: Path
    within: Path | None
    """The folder it was found in; None if it was named."""
    size: int
    """Bytes of the file."""
    output: Path | None
    """Path of the protected copy; None to replace the file."""
    again: Record | None = None
    """With `force`: the ledger row whose original is protected again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The photos to protect, and a row for each file that needs no work."""

    jobs: tuple[Job, ...]
    resolved: tuple[Outcome, ...]


def plan(paths: Sequence[Path], request: Request, store: Store, *, within: Path | None = None) -> Plan:
    """Walk folders, read each file, drop duplicates, and look each up in the ledger; return jobs and finished rows.

    With `within` the paths are files found in that folder, and nothing is walked. Links in folders are not followed,
    and excluded files have no row. A file found in a folder that is not an image is `skipped`, a named file that cannot
    be read is `failed`. A photo that fell short before with the same settings is `short`, unless `force` or
    `accept_best` asks for a new try. A copy that would overwrite a photo of the run or another copy is `failed`, and so
    is a photo that may not be replaced; only the latter is decoded here. Raises UsageError, UnknownNameError,
    CheckpointError.
    """
    store.require_sound()
    attempts = EarlierAttempts(request, store)
    copies = None if request.output is None else CopyPlaces(paths, request.output)
    key = store.key() if request.rename else None
    jobs: list[Job] = []
    resolved: list[Outcome] = []
    known_files: dict[FileKey, Path] = {}
    found = files(paths, request, store, resolved) if within is None else [(path, within) for path in paths]
    for path, within in found:
        snapshot = read_photo(path, within)
        if isinstance(snapshot, Outcome):
            resolved.append(snapshot)
            continue
        identity = file_key(snapshot.dev, snapshot.inode, snapshot.nlink, str(snapshot.path))
        first = known_files.get(identity)
        known_files[identity] = first or path
        if first == path:
            continue
        if first is not None:
            resolved.append(Outcome(str(path), "skipped", reason=f"the same file as {first}"))
            continue
        record = store.known(snapshot.sha256)
        if record is not None:
            store.confirm(record)
        # A copy from an earlier run may be the very file that this run would write.
        if copies is not None and (request.force or record is None or record.kind != "copy"):
            copies.add(path, (snapshot.dev, snapshot.inode))
        if record is not None and not request.force:
            resolved.append(already_row(path, record, request))
            continue
        output = None if request.output is None else copy_place(request.output, path, within, key)
        short = attempts.before(snapshot.sha256)
        if short is not None:
            asked = base_fields(path, output, snapshot.sha256, request)
            resolved.append(Outcome(status="short", **asked, **short))
            continue
        job = Job(path, within, snapshot.size, output, again=record)
        refused = _refused(job, snapshot, request, store)
        if refused is None:
            jobs.append(job)
        else:
            resolved.append(refused)
    if copies is not None:
        jobs = [job for job in jobs if may_copy(job, copies, resolved)]
    return Plan(tuple(jobs), tuple(resolved))


def _refused(job: Job, snapshot: Snapshot, request: Request, store: Store) -> Outcome | None:
    """Return the row of a photo that may not be replaced, such as a read-only file; None if it may.

    An earlier result with edited metadata is not replaced anyway, so it gets its usual row.
    """
    if job.output is not None:
        return None
    options = request.file_options
    try:
        store.require_replaceable(snapshot, break_links=options.break_links, allow_root=options.allow_root)
    except HashshieldError as error:
        usual = None if request.force else _resolved_row(job, request, store, results_of(store))
        asked = base_fields(job.path, None, snapshot.sha256, request)
        return usual or Outcome(status="failed", reason=str(error), **asked)
    return None


def may_copy(job: Job, copies: CopyPlaces, resolved: list[Outcome]) -> bool:
    """Return whether the job's copy may be written; if not, append its row to `resolved`."""
    assert job.output is not None
    reason = copies.refusal(job.path, job.output)
    if reason is not None:
        resolved.append(Outcome(str(job.path), "failed", output=str(job.output), reason=reason))
    return reason is None


def read_photo(path: Path, within: Path | None) -> Snapshot | Outcome:
    """Read a file; return its row instead if it cannot be read or is not an image."""
    try:
        with boundary("read", str(path)):
            return read_photo_file(path, follow=within is None, within=within)
    except NotAPhotoError as error:
        return not_an_image(path, within, error)
    except HashshieldError as error:
        return Outcome(str(path), "failed", reason=str(error))


def open_photo(data: bytes, *, name: str, lossy_formats: bool) -> imaging.Photo:
    """Decode a photo to be protected. Raises PhotoError, also for HEIC and AVIF without `lossy_formats`."""
    container = imaging.sniff(data[:64])
    if container in imaging.LOSSY_FORMATS and not lossy_formats:
        raise UnsupportedError(
            f"{name}: {str(container).upper()} loses a little with each writing; accept that with "
            "--lossy-formats, or convert it to JPEG, PNG or WebP first"
        )
    return imaging.read(data, name=name)


def not_an_image(path: Path, within: Path | None, error: NotAPhotoError) -> Outcome:
    """Return the row of a file that is not an image: `failed` if it was named, `skipped` if found in a folder."""
    if within is None:
        return Outcome(str(path), "failed", reason=str(error))
    return Outcome(str(path), "skipped", reason="not an image")


def already_row(path: Path, record: Record, request: Request) -> Outcome:
    """Return the row of an earlier run's result, with a hint if the settings differ now. Raises as `base_fields`."""
    details = record.details
    reason = other_place(record, request) or settings_mismatch(
        details, request, "--force starts again from the original"
    )
    fields = {k: details[k] for k in _TOLD if k in details}
    if fields.get("visibility") is not None:
        fields["visibility_word"] = word(fields["visibility"])
    return Outcome(str(path), "already", reason=reason, sha256_after=record.sha256_after, **fields)


def settings_mismatch(details: Mapping[str, Any], request: Request, advice: str) -> str | None:
    """Return which earlier settings differ from the request, and `advice`, or None. Raises as `base_fields`."""
    asked = {
        "model": model_names(request),
        "goal": request.goal.label,
        "tau": request.tau,
        "method": request.method,
        "preset": request.preset,
    }
    was = ", ".join(f"{k} {details[k]}" for k, v in asked.items() if k in details and details[k] != v)
    return f"protected earlier with {was}; {advice}" if was else None


def base_fields(path: Path, output: Path | None, sha256: str, request: Request) -> dict[str, Any]:
    """Return the row fields that every outcome of a photo has. Raises UnknownNameError, CheckpointError."""
    return {
        "path": str(path),
        "output": text_of(output),
        "model": model_names(request),
        "method": request.method,
        "preset": request.preset,
        "goal": request.goal.label,
        "place_name": request.place_name,
        "tau": request.tau,
        "sha256_before": sha256,
    }


def credentials_notice(name: str, data: bytes, request: Request) -> str | None:
    """Return the notice before a photo with content credentials is changed; None if none is needed."""
    options = request.file_options
    if options.remove_credentials or options.strip_metadata or not has_credentials(data):
        return None
    return CREDENTIALS.format(name)


CREDENTIALS = (
    "{}: has content credentials (C2PA), whose signature no longer matches a changed photo; "
    "--remove-credentials takes them out, here and of all others"
)


def text_of(path: Path | None) -> str | None:
    """Return a path as rows store it."""
    return None if path is None else str(path)


def model_names(request: Request) -> str:
    """Return the networks' full names, comma-separated, as receipts and ledger store them.

    Raises UnknownNameError, CheckpointError.
    """
    return ",".join(dict.fromkeys(map(full_name, request.models)))


def files(
    paths: Sequence[Path], request: Request, store: Store, resolved: list[Outcome]
) -> Iterator[tuple[Path, Path | None]]:
    """Return each file with the folder it was found in (None: named); rows of unlistable paths go to `resolved`."""

    def failed(folder: Path, error: OSError) -> None:
        resolved.append(Outcome(str(folder), "failed", reason=f"{folder}: cannot be listed ({error.strerror})"))

    def foreign(location: Path) -> bool:
        resolved.append(Outcome(str(location), "skipped", reason=FOREIGN))
        return False

    for path in paths:
        if not os.path.lexists(path):
            resolved.append(Outcome(str(path), "failed", reason=f"{path}: no such file or folder"))
    there = [path for path in paths if os.path.lexists(path)]
    return named(there, skip=store.root, exclude=request.exclude, failed=failed, foreign=foreign)


def prefilter(jobs: Sequence[Job], request: Request, store: Store, rows: dict[str, Outcome]) -> Sequence[Job]:
    """Decode photos from the first on and add their rows to `rows`, until one needs the networks; return the rest.

    The rest is not decoded here, because it would be decoded twice. With `force` all jobs are returned, because an
    edited file may be protected again from its original. Raises UnknownNameError, CheckpointError.
    """
    results = {} if request.force else results_of(store)
    for index, job in enumerate(jobs):
        row = None if request.force else _resolved_row(job, request, store, results)
        if row is None:
            return jobs[index:]
        rows[row.path] = row
    return ()


def _resolved_row(job: Job, request: Request, store: Store, results: Results) -> Outcome | None:
    """Return the row of a photo that cannot be decoded or is an earlier result, even if edited since; else None."""
    try:
        with boundary("read", str(job.path)):
            snapshot = read_photo_file(job.path, follow=job.within is None, within=job.within)
    except HashshieldError as error:
        return Outcome(str(job.path), "failed", reason=str(error))
    try:
        lossy_formats = request.file_options.lossy_formats
        with boundary("decode", str(job.path)):
            photo = open_photo(snapshot.data, name=str(job.path), lossy_formats=lossy_formats)
    except HashshieldError as error:
        return Outcome(
            status="failed", reason=str(error), **base_fields(job.path, job.output, snapshot.sha256, request)
        )
    earlier = earlier_result(photo, results)
    if earlier is None:
        return None
    if earlier.reoriented:
        asked = base_fields(job.path, job.output, snapshot.sha256, request)
        return Outcome(status="short", reason=TURNED, **asked)
    known = store.known(snapshot.sha256, earlier.digest)
    return None if known is None else already_row(job.path, known, request)
