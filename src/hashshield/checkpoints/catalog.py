"""The catalogue of checkpoints: data, not import side effects. No torch here, so that listing answers at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from hashshield.checkpoints import cache as to_stored_orientation
from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.text import did_you_mean, parse_toml, read_toml

__all__ = [
    "DEFAULT_MODEL",
    "SUFFIX",
    "Entry",
    "Reference",
    "State",
    "absent",
    "checked",
    "checked_name",
    "entries",
    "file_of",
    "find",
    "full_name",
    "is_name",
    "known",
    "read_entries",
    "reference",
    "remote",
    "resolve",
    "state",
    "write_entry",
]

SUFFIX = ".safetensors"
_LARGEST = 1 << 31
"""Bytes of a checkpoint; the largest known here has less than a twentieth of it."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of a catalogue."""

    name: str
    file: str
    """A plain file name, the same in the package, in the cache and on every mirror."""
    size: int
    """Bytes; never more are read."""
    sha256: str
    licence: str
    summary: str
    bits: tuple[int, ...]
    classes: tuple[str, ...] = ()
    map: dict[int, float] = field(default_factory=dict)
    """Full-database MAP by code length."""
    embedded: bool = False
    """The file comes with the package."""
    mirrors: tuple[str, ...] = ()
    """Addresses of the file's folder, asked in this order after the default one."""
    imported: bool = False
    """The user's own, known in this cache only."""


def is_name(name: str) -> bool:
    """Whether it can be a checkpoint's name: it becomes a file's, and no separator, "..", drive or colon fits."""
    return bool(_NAME.fullmatch(name)) and len(name) <= _LONGEST_NAME and not name.endswith(SUFFIX)


def checked_name(name: str, *, source: str) -> str:
    """The name, when it can be a file's and needs no quotes. Raises CheckpointError naming `source`."""
    if not is_name(name):
        raise CheckpointError(
            f"{source}: {name!r} cannot be a checkpoint's name; use at most {_LONGEST_NAME} lower-case letters, "
            "digits, hyphens, underscores and single dots"
        )
    return name


def remote(address: str) -> bool:
    """Whether it is an address that can be asked: http or https, with a host and without a user's name."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def read_entries(path: Path, *, imported: bool = False) -> tuple[str, tuple[Entry, ...]]:
    """The default address and the checkpoints of a catalogue. Raises CheckpointError naming the first fault."""
    remedy = "remove it and import the checkpoint again" if imported else "reinstall hashshield"
    try:
        raw = read_toml(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no valid catalogue ({error}); {remedy}") from error
    address, tables = raw.pop("address", ""), raw.pop("checkpoints", None)
    if raw or not isinstance(tables, dict) or not (address == "" or _is_address(address)):
        raise CheckpointError(f"{path}: no valid catalogue (an address and a table of checkpoints); {remedy}")
    found: list[Entry] = []
    for name, table in tables.items():
        checked_name(name, source=str(path))
        fault = _fault(table)
        if fault is None and table["file"].lower() in {entry.file.lower() for entry in found}:
            fault = f"file {table['file']!r} is another checkpoint's too"
        if fault:
            raise CheckpointError(f"{path}: {name}: {fault}; {remedy}")
        found.append(_entry(name, table, imported=imported))
    return address, tuple(found)


def checked(entry: Entry, *, source: str) -> Entry:
    """The entry, when what is written of it will be read again. Raises CheckpointError naming `source`."""
    checked_name(entry.name, source=source)
    if fault := _fault(parse_toml(write_entry(entry))["checkpoints"][entry.name]):
        raise CheckpointError(f"{source}: cannot be entered into a catalogue: {fault}; mend its card")
    return entry


def write_entry(entry: Entry) -> str:
    """Return the TOML table of one checkpoint, which `read_entries` reads back."""
    import tomli_w

    table: dict[str, Any] = {
        "file": entry.file,
        "size": entry.size,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "summary": entry.summary,
        "bits": entry.bits,
        "embedded": entry.embedded,
    }
    # What a catalogue may leave out is left out where it is empty.
    table |= {key: values for key in sorted(_OPTIONAL, reverse=True) if (values := getattr(entry, key))}
    table["map"] = {str(bits): value for bits, value in entry.map.items()}
    return tomli_w.dumps({"checkpoints": {entry.name: table}})


def _entry(name: str, table: dict[str, Any], *, imported: bool) -> Entry:
    return Entry(
        name=name,
        file=table["file"],
        size=table["size"],
        sha256=table["sha256"],
        licence=table["licence"],
        summary=table["summary"],
        bits=tuple(table["bits"]),
        classes=tuple(table.get("classes", ())),
        map={int(bits): float(value) for bits, value in table["map"].items()},
        embedded=table["embedded"],
        mirrors=tuple(table.get("mirrors", ())),
        imported=imported,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(SUFFIX) and bool(_NAME.fullmatch(value.removesuffix(SUFFIX)))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and remote(value)


def _is_bits(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_count(bits, 4096) for bits in value)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(
        bits.isascii() and bits.isdigit() and isinstance(number, (int, float)) and 0 <= number <= 1
        for bits, number in value.items()
    )


def _is_list(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(each, value))


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "file": (_is_file, f"a plain file name that ends with {SUFFIX}"),
    "size": (lambda value: _is_count(value, _LARGEST), f"a number of bytes, at most {_LARGEST}"),
    "sha256": (lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)), "64 hex digits"),
    "licence": (_is_text, "text"),
    "summary": (_is_text, "text"),
    "bits": (_is_bits, "a list of code lengths"),
    "embedded": (lambda value: isinstance(value, bool), "true or false"),
    "map": (_is_map, "a MAP from 0 to 1 by code length"),
    "mirrors": (lambda value: _is_list(value, _is_address), "a list of http or https addresses"),
    "classes": (lambda value: _is_list(value, _is_text), "a list of names"),
}
_OPTIONAL = {"mirrors", "classes"}


def _fault(table: Any) -> str | None:
    """What is wrong with a checkpoint's table, in words; None when nothing is."""
    if not isinstance(table, dict):
        return "it is no table"
    if unknown := sorted(table.keys() - _KEYS.keys()):
        return f"unknown key {unknown[0]!r}"
    for key, (fits, words) in _KEYS.items():
        if key not in table:
            if key not in _OPTIONAL:
                return f"{key} is missing; it is {words}"
        elif not fits(table[key]):
            return f"{key} is {str(table[key])[:80]!r}; it must be {words}"
    return None


DEFAULT_MODEL = "lite0-caltech101:48"
State = Literal["embedded", "downloaded", "available", "imported"]
_HERE = Path(__file__).parent


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
    """All checkpoints of the catalogue, in its order; its default address is the first mirror of each.

    Raises CheckpointError for a catalogue that is damaged.
    """
    address, found = read_entries(_HERE / "catalog.toml")
    return tuple(replace(entry, mirrors=((address,) if address else ()) + entry.mirrors) for entry in found)


def known() -> tuple[Entry, ...]:
    """The catalogue's checkpoints and the imported ones. Raises CheckpointError for a damaged entry."""
    names = {entry.name for entry in entries()}
    return entries() + tuple(entry for entry in to_stored_orientation.imported() if entry.name not in names)


def find(name: str) -> Entry:
    """The entry of that name. Raises UnknownNameError naming the nearest."""
    for entry in entries():
        if entry.name == name:
            return entry
    if (own := to_stored_orientation.imported_as(name)) is not None:
        return own
    names = [entry.name for entry in known()]
    hint = did_you_mean(name, names, cutoff=0.4) or f"known are {', '.join(names)}"
    raise UnknownNameError(f"unknown model {name!r}; {hint} (or the path of a {SUFFIX} file)")


def file_of(entry: Entry) -> Path:
    """Where the entry's file is, or would be."""
    if entry.embedded:
        return _HERE / "bundled" / entry.file
    return to_stored_orientation.folder(imported=entry.imported) / entry.file


def state(entry: Entry) -> State:
    """Whether the file came with the package, is in the cache, or can be had."""
    if entry.embedded:
        return "embedded"
    if entry.imported:
        return "imported"
    return "downloaded" if to_stored_orientation.is_here(file_of(entry)) else "available"


def absent(models: Iterable[str]) -> tuple[Entry, ...]:
    """The entries among these models, named as for `resolve`, whose files are yet to be downloaded; each once."""
    found: dict[str, Entry] = {}
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
