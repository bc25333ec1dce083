"""What a fleet is to do, and what it has done: one Parquet file per batch, with a row for each photo.

A file is written when all outputs of its batch are there. What there is to do is decided without reading a single
photo: that is the workers' part.
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
from hashshield.pipeline.places import CopyPlaces, check_output, copy_place
from hashshield.pipeline.plan import Job, files, may_copy, settings_mismatch
from hashshield.storage import Store, digest, walk
from hashshield.storage.atomic import write_copy
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
    """Photos that are done together and have their rows in one part of the manifest."""

    part: str
    jobs: tuple[Job, ...]

    def as_row(self) -> dict[str, Any]:
        """As a row of a data set, which knows no classes of ours."""
        return {
            "part": self.part,
            # Empty for a photo that was named: a column of nothing but None has no type that others share.
            "jobs": [[str(job.path), str(job.within or ""), str(job.size), str(job.output)] for job in self.jobs],
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Batch:
        """What `as_row` was called on."""
        jobs = (
            Job(Path(path), Path(within) if within else None, int(size), Path(output))
            for path, within, size, output in row["jobs"]
        )
        return cls(row["part"], tuple(jobs))


def photo_of(job: Job, output: Path) -> str:
    """The name a photo has in the manifest: where its copy lies below the output folder, with slashes."""
    assert job.output is not None
    return job.output.relative_to(output).as_posix()


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row: what became of one photo."""

    photo: str
    """Where its output lies below the output folder, with slashes; no two rows of a manifest share one."""
    run: str
    """Which run wrote the row."""
    outcome: Outcome


def part_name(photos: Iterable[str]) -> str:
    """The file of a batch, named after its photos: done twice, a batch has the same file, and a photo one row."""
    return f"part-{digest(chr(0).join(sorted(photos)).encode())[:24]}.parquet"


def table_of(entries: Iterable[ManifestRow]) -> pa.Table:
    """Entries as a table, one column per field of an outcome."""
    rows = [{"photo": entry.photo, "run": entry.run, **_plain(entry.outcome)} for entry in entries]
    return pa.Table.from_pylist(rows, schema=_schema())


def entries_of(table: pa.Table) -> list[ManifestRow]:
    """What `table_of` was given."""
    return [
        ManifestRow(
            row["photo"], row["run"], _restored(Outcome, {field.name: row[field.name] for field in fields(Outcome)})
        )
        for row in table.to_pylist()
    ]


def write_part(path: Path, entries: Sequence[ManifestRow]) -> None:
    """Write a part, whole or not at all, for this user only. Raises StorageError."""
    buffer = io.BytesIO()
    pq.write_table(table_of(sorted(entries, key=lambda entry: entry.photo)), buffer)
    write_copy(path, buffer.getvalue())


def read_part(path: Path) -> list[ManifestRow]:
    """The rows of a part; none where there is no such file. Raises StorageError for one that is no part."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror}); mend its permissions and run again") from error
    try:
        table = pq.read_table(io.BytesIO(data))
        if table.schema.names != _schema().names:
            raise pa.ArrowInvalid(f"columns {', '.join(table.schema.names)}")
    except pa.ArrowInvalid as error:
        raise StorageError(
            f"{path}: is no part of a manifest of this version ({error}); move it away, and its photos are done again"
        ) from error
    return entries_of(table)


def read_all(folder: Path) -> dict[str, tuple[str, ManifestRow]]:
    """Per photo the part it is in and its row. Raises StorageError, also where a photo has two rows."""
    found: dict[str, tuple[str, ManifestRow]] = {}
    for path in walk(folder):
        if path.suffix != ".parquet":
            continue
        for entry in read_part(path):
            if entry.photo in found:
                raise StorageError(
                    f"{folder}: {entry.photo} has a row in {found[entry.photo][0]} and one in {path.name}; "
                    "move one of the two files away, and its photos are done again"
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
    """The value of that type which `_plain` took apart."""
    if value is not None and get_origin(annotation) is tuple:
        return tuple(_restored(get_args(annotation)[0], item) for item in value)
    if value is not None and is_dataclass(annotation) and isinstance(annotation, type):
        hints = get_type_hints(annotation)
        return annotation(**{name: _restored(hints[name], item) for name, item in value.items()})
    return value


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
    if not (output / FOLDER).is_dir() and any(output.iterdir()):
        raise UsageError(
            f"--output {output}: holds files but no {FOLDER}, so no earlier run wrote them; name a new folder"
        )


def listed(paths: Sequence[Path], request: Request, store: Store) -> tuple[list[Job], list[Outcome]]:
    """A job for every file, and a row for what cannot be one; nothing is read but folders."""
    assert request.output is not None
    resolved: list[Outcome] = []
    jobs: dict[Path, Job] = {}
    known_files: dict[tuple[int, int], Path] = {}
    copies = CopyPlaces(paths, request.output)
    key = store.key() if request.rename else None
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
            jobs[path] = Job(path, within, status.st_size, copy_place(request.output, path, within, key))
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
        parts[part_name(photo_of(job, output) for job in batch)] = batch
    return [Batch(part, tuple(found)) for part, found in parts.items()]
