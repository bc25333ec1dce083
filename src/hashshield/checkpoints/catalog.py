"""The catalogue of checkpoints: data, not import side effects. No torch here, so that listing answers at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from hashshield.checkpoints import cache as cached
from hashshield.checkpoints.cache import SUFFIX, CatalogEntry, read_entries
from hashshield.errors import CheckpointError, UnknownNameError
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
    """A model as the user named it: a file, and one of its code lengths (None: the longest)."""

    name: str
    """In the catalogue, or the absolute path of a file: it still means the same in another folder or run."""
    path: Path
    bits: int | None
    entry: CatalogEntry | None


@cache
def entries() -> tuple[CatalogEntry, ...]:
    """All checkpoints of the catalogue, in its order; its default address is the first mirror of each.

    Raises CheckpointError for a catalogue that is damaged.
    """
    address, found = read_entries(_HERE / "catalog.toml")
    return tuple(replace(entry, mirrors=((address,) if address else ()) + entry.mirrors) for entry in found)


def known() -> tuple[CatalogEntry, ...]:
    """The catalogue's checkpoints and the imported ones. Raises CheckpointError for a damaged entry."""
    names = {entry.name for entry in entries()}
    return entries() + tuple(entry for entry in cached.imported() if entry.name not in names)


def find(name: str) -> CatalogEntry:
    """The entry of that name. Raises UnknownNameError naming the nearest."""
    for entry in entries():
        if entry.name == name:
            return entry
    if (own := cached.imported_as(name)) is not None:
        return own
    names = [entry.name for entry in known()]
    suggestion = did_you_mean(name, names, cutoff=0.4) or f"known are {', '.join(names)}"
    raise UnknownNameError(f"unknown model {name!r}; {suggestion} (or the path of a {SUFFIX} file)")


def file_of(entry: CatalogEntry) -> Path:
    """Where the entry's file is, or would be."""
    if entry.embedded:
        return _HERE / "bundled" / entry.file
    return cached.folder(imported=entry.imported) / entry.file


def state(entry: CatalogEntry) -> Availability:
    """Whether the file came with the package, is in the cache, or can be had."""
    if entry.embedded:
        return "embedded"
    if entry.imported:
        return "imported"
    return "downloaded" if cached.is_here(file_of(entry)) else "available"


def absent(models: Iterable[str]) -> tuple[CatalogEntry, ...]:
    """The entries among these models, named as for `resolve`, whose files are yet to be downloaded; each once."""
    found: dict[str, CatalogEntry] = {}
    for model in models:
        name, _ = _parts(model)
        found |= {entry.name: entry for entry in entries() if entry.name == name and state(entry) == "available"}
    return tuple(found.values())


def full_name(model: str) -> str:
    """`checkpoint:bits` for any way of naming a model, as the ledger knows it; the file need not be downloaded.

    A file is named by its absolute path; without a length it stays without, which only its card could tell.
    Raises UnknownNameError, CheckpointError.
    """
    found = reference(model)
    bits = found.bits or (max(found.entry.bits) if found.entry else None)
    return found.name if bits is None else f"{found.name}:{bits}"


def resolve(model: str) -> Reference:
    """Turn `checkpoint`, `checkpoint:bits`, `file.safetensors` or `file.safetensors:bits` into a file.

    Raises UnknownNameError for a name or length that does not exist, CheckpointError for a missing file.
    """
    found = reference(model)
    if found.entry is not None and state(found.entry) == "available":
        raise CheckpointError(
            f"{found.name} is known but not here; fetch it with `hashshield models download {found.name}` "
            f"({found.entry.size / 1e6:.1f} MB). Where that reaches no server, HASHSHIELD_MIRROR names a "
            "mirror, or the folder checkpoints/ of a clone of the repository"
        )
    return found


def _parts(model: str) -> tuple[str, int | None]:
    """Name or path, and code length."""
    name, _, tail = model.rpartition(":")
    bits = int(tail) if name and tail.isascii() and tail.isdigit() else None
    return (model if bits is None else name), bits


def reference(model: str) -> Reference:
    """As `resolve`, for a catalogue's checkpoint whether its file is here or not."""
    name, bits = _parts(model)
    if name.endswith(SUFFIX):
        path = Path(name)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint file")
        return Reference(str(path.resolve()), path, bits, None)
    entry = find(name)
    if bits is not None and bits not in entry.bits:
        lengths = ", ".join(str(k) for k in entry.bits)
        raise UnknownNameError(f"{name} has no code of {bits} bits; its lengths are {lengths}")
    return Reference(name, file_of(entry), bits, entry)
