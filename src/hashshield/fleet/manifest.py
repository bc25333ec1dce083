"""The batches of a fleet's run, and its manifest: one Parquet file per batch, with a row for each photo.

A part of the manifest is written after all outputs of its batch. Batches are made without reading any photo; only
workers read photos.
"""

from __future__ import annotations

import io
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from hashshield.errors import StorageError, UsageError
from hashshield.paths import exists, is_folder
from hashshield.pipeline.places import CopyPlaces, check_output, copy_place
from hashshield.pipeline.plan import Job, files, may_copy, settings_mismatch
from hashshield.storage import FileKey, Store, digest, file_key, walk
from hashshield.storage.atomic import write_copy
from hashshield.storage.calls import explain
from hashshield.types import Outcome, Request

__all__ = [
    "FOLDER",
    "Batch",
    "ManifestRow",
    "batches_of",
    "check_places",
    "entries_of",
    "listed",
    "part_name",
    "photo_of",
    "read_all",
    "read_part",
    "settled_before",
    "table_of",
    "write_part",
]


FOLDER = "hashshield-manifest"
"""Name of the folder beside the outputs that holds the parts."""

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos that are protected together and have their rows in one part of the manifest."""

    part: str
    jobs: tuple[Job, ...]

    def as_row(self) -> dict[str, Any]:
        """Return the batch as a row of plain values for a Ray data set."""
        return {
            "part": self.part,
            # "" instead of None for a photo that was named: a column of only None would have another type.
            "jobs": [[str(job.path), str(job.within or ""), str(job.size), str(job.output)] for job in self.jobs],
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Batch:
        """Return the batch that `as_row` converted."""
        jobs = (
            Job(Path(path), Path(within) if within else None, int(size), Path(output))
            for path, within, size, output in row["jobs"]
        )
        return cls(row["part"], tuple(jobs))


def photo_of(job: Job, output: Path) -> str:
    """Return a photo's name in the manifest: the path of its copy below the output folder, with slashes."""
    assert job.output is not None
    return job.output.relative_to(output).as_posix()


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row of the manifest: the outcome of one photo."""

    photo: str
    """Path of the output below the output folder, with slashes; unique in a manifest."""
    run: str
    """Id of the run that wrote the row."""
    outcome: Outcome


def part_name(photos: Iterable[str]) -> str:
    """Return the file name of a batch, derived from its photos, so that repeating a batch replaces its file."""
    return f"part-{digest(chr(0).join(sorted(photos)).encode())[:24]}.parquet"


def table_of(entries: Iterable[ManifestRow]) -> pa.Table:
    """Return rows as a table: photo, run, and one column per field of an outcome."""
    rows = [{"photo": entry.photo, "run": entry.run, **_plain(entry.outcome)} for entry in entries]
    return pa.Table.from_pylist(rows, schema=_schema())


def entries_of(table: pa.Table) -> list[ManifestRow]:
    """Return the rows that `table_of` converted."""
    return [
        ManifestRow(
            row["photo"], row["run"], _restored(Outcome, {field.name: row[field.name] for field in fields(Outcome)})
        )
        for row in table.to_pylist()
    ]


def write_part(path: Path, entries: Sequence[ManifestRow]) -> None:
    """Write a part atomically, readable only by its owner. Raises StorageError."""
    buffer = io.BytesIO()
    pq.write_table(table_of(sorted(entries, key=lambda entry: entry.photo)), buffer)
    write_copy(path, buffer.getvalue())


def read_part(path: Path) -> list[ManifestRow]:
    """Return the rows of a part; [] if there is no such file. Raises StorageError if it is not a part."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror}); fix its permissions and run again") from error
    try:
        table = pq.read_table(io.BytesIO(data))
        if table.schema.names != _schema().names:
            raise pa.ArrowInvalid(f"columns {', '.join(table.schema.names)}")
    except pa.ArrowInvalid as error:
        raise StorageError(
            f"{path}: is no part of a manifest of this version ({error}); move it away with the "
            "outputs of its photos, and they are done again"
        ) from error
    return entries_of(table)


def read_all(folder: Path) -> dict[str, tuple[str, ManifestRow]]:
    """Return for each photo the part that holds it and its row. Raises StorageError, also if a photo has two rows."""
    found: dict[str, tuple[str, ManifestRow]] = {}
    for path in walk(folder):
        if path.suffix != ".parquet":
            continue
        for entry in read_part(path):
            if entry.photo in found:
                raise StorageError(
                    f"{folder}: {entry.photo} has a row in {found[entry.photo][0]} and one in {path.name}; "
                    "move one of the two files away with the outputs that only it lists, and they are done again"
                )
            found[entry.photo] = (path.name, entry)
    return found


def _schema() -> pa.Schema:
    return pa.schema([("photo", pa.string()), ("run", pa.string()), *_columns(Outcome)])


def _columns(kind: type[Any]) -> list[tuple[str, pa.DataType]]:
    hints = get_type_hints(kind)
    return [(field.name, _type(hints[field.name])) for field in fields(kind)]


def _type(annotation: Any) -> pa.DataType:
    if get_origin(annotation) in (Union, types.UnionType):
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return pa.string()
    if get_origin(annotation) is tuple:
        return pa.list_(_type(get_args(annotation)[0]))
    return (
        pa.struct(_columns(annotation))
        if is_dataclass(annotation) and isinstance(annotation, type)
        else _PLAIN[annotation]
    )


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _restored(annotation: Any, value: Any) -> Any:
    """Return the value of type `annotation` that `_plain` converted."""
    if value is not None and get_origin(annotation) is tuple:
        return tuple(_restored(get_args(annotation)[0], item) for item in value)
    if value is not None and is_dataclass(annotation) and isinstance(annotation, type):
        hints = get_type_hints(annotation)
        return annotation(**{name: _restored(hints[name], item) for name, item in value.items()})
    return value


_BATCHES_PER_WORKER = 16
"""Least batches per worker if there are enough photos, so that all workers finish at about the same time."""
_SMALLEST, _LARGEST = 8, 512
"""Limits on the photos of a batch: fewer do not fill the search, more are costly to repeat."""


def check_places(paths: Sequence[Path], output: Path) -> None:
    """Raise UsageError for an output folder that overlaps with the photos, or holds files of no earlier fleet run."""
    check_output(paths, output)
    real = Path(os.path.realpath(output))
    for path in paths:
        given = Path(os.path.realpath(path))
        if real.is_relative_to(given) or given.is_relative_to(real):
            raise UsageError(f"--output {output}: overlaps with {path}; name a folder apart from the photos")
    if not exists(output):
        return
    try:
        strange = not is_folder(output / FOLDER) and any(output.iterdir())
    except OSError as error:
        raise UsageError(f"--output {output}: {explain(error)}; name another folder") from error
    if strange:
        raise UsageError(
            f"--output {output}: holds files but no {FOLDER}, so no earlier run wrote them; name a new folder"
        )


def listed(paths: Sequence[Path], request: Request, store: Store) -> tuple[list[Job], list[Outcome]]:
    """Return a job for every file to protect, and rows for the others; reads folders, but no files."""
    assert request.output is not None
    resolved: list[Outcome] = []
    jobs: dict[Path, Job] = {}
    known_files: dict[FileKey, Path] = {}
    copies = CopyPlaces(paths, request.output)
    key = store.key() if request.rename else None
    for path, within in files(paths, request, store, resolved):
        try:
            status = path.stat(follow_symlinks=within is None)
        except OSError as error:
            resolved.append(Outcome(str(path), "failed", reason=f"{path}: cannot be read: {error.strerror}"))
            continue
        # Links are followed only in the folder's own path, unless the file was named.
        real = path.resolve() if within is None else path.parent.resolve() / path.name
        first = known_files.setdefault(file_key(status.st_dev, status.st_ino, status.st_nlink, str(real)), path)
        copies.add(first, (status.st_dev, status.st_ino))
        place = copy_place(request.output, path, within, key)
        strange = next((name for name in (path, place) if not _is_text(name)), None)
        if first != path:
            resolved.append(Outcome(str(path), "skipped", reason=f"the same file as {first}"))
        elif strange is not None:
            reason = f"{strange}: is not UTF-8, and the manifest holds no other names; rename it, or use --engine local"
            resolved.append(Outcome(str(path), "failed", reason=reason))
        else:
            jobs[path] = Job(path, within, status.st_size, place)
    return [job for job in jobs.values() if may_copy(job, copies, resolved)], resolved


def _is_text(path: Path) -> bool:
    """Return whether a path can be written in UTF-8, as Parquet stores text; the bytes of file names need not be."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def settled_before(
    jobs: Sequence[Job], known: Mapping[str, tuple[str, ManifestRow]], request: Request
) -> dict[Path, Outcome]:
    """Return the rows of photos in the manifest, without failed ones, which are tried again."""
    assert request.output is not None
    rows = {}
    for job in jobs:
        _, entry = known.get(photo_of(job, request.output), (None, None))
        if entry is not None and entry.outcome.status != "failed":
            rows[job.path] = _again(entry.outcome, request)
    return rows


def _again(row: Outcome, request: Request) -> Outcome:
    """Return the row to report for a photo that an earlier run has finished."""
    if row.status in ("protected", "partial"):
        details = {"model": row.model, "goal": row.goal, "tau": row.tau, "method": row.method}
        reason = settings_mismatch(details, request, "another output folder starts again")
        return replace(row, status="already", reason=reason)
    again = "tried before: another output folder tries again"
    return replace(row, reason=f"{row.reason} ({again})") if row.status == "short" else row


def batches_of(
    jobs: Sequence[Job], known: Mapping[str, tuple[str, ManifestRow]], output: Path, *, workers: int
) -> list[Batch]:
    """Return batches for this number of workers; photos that already have a row stay in its part."""
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
        parts[part_name(photo_of(job, output) for job in batch)] = batch
    return [Batch(part, tuple(found)) for part, found in parts.items()]
