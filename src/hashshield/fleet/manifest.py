"""The manifest: one Parquet file per batch of photos, written when all its outputs are there, a row for each photo."""

from __future__ import annotations

import io
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from hashshield.errors import StorageError
from hashshield.pipeline.plan import Job
from hashshield.storage import digest, walk
from hashshield.storage.atomic import write_copy
from hashshield.types import Outcome

__all__ = [
    "FOLDER",
    "Batch",
    "ManifestRow",
    "entries_of",
    "part_name",
    "photo_of",
    "read_all",
    "read_part",
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
