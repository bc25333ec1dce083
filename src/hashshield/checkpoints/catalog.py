"""The catalogue of checkpoints: find a network's file by name. No torch here, so that listing is fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from hashshield.checkpoints import cache as cached
from hashshield.checkpoints.cache import SUFFIX, CatalogEntry, read_entries
from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.paths import is_file
from hashshield.text import did_you_mean

__all__ = [
    "DEFAULT_MODEL",
    "Availability",
    "CatalogEntry",
    "Reference",
    "absent",
    "entries",
    "file_of",
    "find",
    "full_name",
    "known",
    "reference",
    "resolve",
    "state",
]

DEFAULT_MODEL = "lite0-caltech101:48"
Availability = Literal["embedded", "downloaded", "available", "imported"]
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Reference:
    """A model named by the user, resolved to a file and a code length."""

    name: str
    """Name in the catalogue, or the file's absolute path, which stays valid in another working folder."""
    path: Path
    bits: int | None
    """Code length; None: the longest."""
    entry: CatalogEntry | None
    """None for a file named by its path."""


@cache
def entries() -> tuple[CatalogEntry, ...]:
    """Return all checkpoints of the catalogue, in its order; its default address is the first mirror of each.

    Raises CheckpointError for a damaged catalogue.
    """
    address, found = read_entries(_HERE / "catalog.toml")
    return tuple(replace(entry, mirrors=((address,) if address else ()) + entry.mirrors) for entry in found)


def known() -> tuple[CatalogEntry, ...]:
    """Return the catalogue's checkpoints, then the imported ones. Raises CheckpointError for a damaged entry."""
    names = {entry.name for entry in entries()}
    return entries() + tuple(entry for entry in cached.imported() if entry.name not in names)


def find(name: str) -> CatalogEntry:
    """Return the entry of that name. Raises UnknownNameError with a suggestion."""
    for entry in entries():
        if entry.name == name:
            return entry
    if (own := cached.imported_as(name)) is not None:
        return own
    names = [entry.name for entry in known()]
    suggestion = did_you_mean(name, names, cutoff=0.4) or f"known are {', '.join(names)}"
    raise UnknownNameError(f"unknown model {name!r}; {suggestion} (or the path of a {SUFFIX} file)")


def file_of(entry: CatalogEntry) -> Path:
    """Return the path of the entry's file, which need not exist."""
    if entry.embedded:
        return _HERE / "bundled" / entry.file
    return cached.folder(imported=entry.imported) / entry.file


def state(entry: CatalogEntry) -> Availability:
    """Return whether the file comes with the package, was imported, is downloaded, or can be downloaded."""
    if entry.embedded:
        return "embedded"
    if entry.imported:
        return "imported"
    return "downloaded" if is_file(file_of(entry)) else "available"


def absent(models: Iterable[str]) -> tuple[CatalogEntry, ...]:
    """Return the entries of these models, named as for `resolve`, whose files must be downloaded first; each once."""
    found: dict[str, CatalogEntry] = {}
    for model in models:
        name, _ = _parts(model)
        found |= {entry.name: entry for entry in entries() if entry.name == name and state(entry) == "available"}
    return tuple(found.values())


def full_name(model: str) -> str:
    """Return `checkpoint:bits`, the name in the ledger, for any way of naming a model; the file may be missing.

    A file becomes its absolute path, without a code length if none was given, because only its card has that. Raises
    UnknownNameError, CheckpointError.
    """
    found = reference(model)
    bits = found.bits or (max(found.entry.bits) if found.entry else None)
    return found.name if bits is None else f"{found.name}:{bits}"


def resolve(model: str) -> Reference:
    """Resolve `checkpoint`, `checkpoint:bits`, `file.safetensors` or `file.safetensors:bits` to an existing file.

    Raises UnknownNameError for a name or length that does not exist, CheckpointError for a missing file.
    """
    found = reference(model)
    if found.entry is not None and state(found.entry) == "available":
        raise CheckpointError(
            f"{found.name} is known but not downloaded; fetch it with `hashshield models download {found.name}` "
            f"({found.entry.size / 1e6:.1f} MB). Where that reaches no server, HASHSHIELD_MIRROR names a "
            "mirror, or the folder checkpoints/ of a clone of the repository"
        )
    return found


def _parts(model: str) -> tuple[str, int | None]:
    """Split a model's name into name or path, and code length or None."""
    name, _, tail = model.rpartition(":")
    bits = int(tail) if name and tail.isascii() and tail.isdigit() else None
    return (model if bits is None else name), bits


def reference(model: str) -> Reference:
    """Resolve a model as `resolve` does, but also a checkpoint of the catalogue that is not downloaded."""
    name, bits = _parts(model)
    if name.endswith(SUFFIX):
        path = Path(name)
        if not is_file(path):
            raise CheckpointError(f"{path}: no such checkpoint file")
        return Reference(str(path.resolve()), path, bits, None)
    entry = find(name)
    if bits is not None and bits not in entry.bits:
        lengths = ", ".join(str(k) for k in entry.bits)
        raise UnknownNameError(f"{name} has no code of {bits} bits; its lengths are {lengths}")
    return Reference(name, file_of(entry), bits, entry)
