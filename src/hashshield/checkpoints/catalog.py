"""The catalogue of checkpoints: data, not import side effects. No torch here, so that listing answers at once."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hashshield.errors import CheckpointError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT_MODEL", "Entry", "Reference", "entries", "find", "full_name", "resolve"]

DEFAULT_MODEL = "lite0-caltech101:48"
_HERE = Path(__file__).parent
SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of the catalogue."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    summary: str
    bits: tuple[int, ...]
    classes: tuple[str, ...] = ()
    map: dict[int, float] = field(default_factory=dict)
    """Full-database MAP by code length."""
    embedded: bool = False
    """The file comes with the package."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as the user named it: a file, and one of its code lengths (None: the longest)."""

    name: str
    """In the catalogue, or the absolute path of a file: it still means the same in another folder or run."""
    path: Path
    bits: int | None
    entry: Entry | None


@cache
def entries() -> tuple[Entry, ...]:
    """All checkpoints known here, in the catalogue's order."""
    raw = tomllib.loads((_HERE / "catalog.toml").read_text(encoding="utf-8"))
    return tuple(
        Entry(
            name=name,
            file=values["file"],
            size=values["size"],
            sha256=values["sha256"],
            licence=values["licence"],
            summary=values["summary"],
            bits=tuple(values["bits"]),
            classes=tuple(values.get("classes", ())),
            map={int(k): v for k, v in values["map"].items()},
            embedded=values["embedded"],
        )
        for name, values in raw["checkpoints"].items()
    )


def find(name: str) -> Entry:
    """The entry of that name. Raises UnknownNameError naming the nearest."""
    for entry in entries():
        if entry.name == name:
            return entry
    known = [entry.name for entry in entries()]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    raise UnknownNameError(f"unknown model {name!r}; {hint} (or the path of a {SUFFIX} file)")


def full_name(model: str) -> str:
    """`checkpoint:bits` for any way of naming a model, as the ledger knows it.

    A file is named by its absolute path; without a length it stays without, which only its card could tell.
    Raises UnknownNameError, CheckpointError.
    """
    reference = resolve(model)
    bits = reference.bits or (max(reference.entry.bits) if reference.entry else None)
    return reference.name if bits is None else f"{reference.name}:{bits}"


def resolve(model: str) -> Reference:
    """Turn `checkpoint`, `checkpoint:bits`, `file.safetensors` or `file.safetensors:bits` into a file.

    Raises UnknownNameError for a name or length that does not exist, CheckpointError for a missing file.
    """
    name, _, tail = model.rpartition(":")
    bits = int(tail) if name and tail.isascii() and tail.isdigit() else None
    name = model if bits is None else name
    if name.endswith(SUFFIX):
        path = Path(name)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint file")
        return Reference(str(path.resolve()), path, bits, None)
    entry = find(name)
    if bits is not None and bits not in entry.bits:
        lengths = ", ".join(str(k) for k in entry.bits)
        raise UnknownNameError(f"{name} has no code of {bits} bits; its lengths are {lengths}")
    return Reference(name, _HERE / "bundled" / entry.file, bits, entry)
