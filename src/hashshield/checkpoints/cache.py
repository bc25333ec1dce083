"""Catalogue entries, and the cache folder of downloaded and imported checkpoints.

Entries are TOML, validated when read. The catalogue of the package has many; each imported checkpoint has a file with
its own entry beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hashshield.config import resolve
from hashshield.errors import CheckpointError, StorageError
from hashshield.paths import is_file, is_folder
from hashshield.storage.atomic import Lock, put
from hashshield.storage.calls import explain
from hashshield.storage.folder import Folder
from hashshield.storage.snapshot import digest
from hashshield.text import parse_toml, read_toml

__all__ = [
    "DOWNLOAD_SECONDS",
    "SUFFIX",
    "CatalogEntry",
    "checked",
    "checked_name",
    "digest_of",
    "folder",
    "held",
    "imported",
    "imported_as",
    "install",
    "is_name",
    "lock_name",
    "read_entries",
    "remote",
    "remove",
    "write_entry",
]


SUFFIX = ".safetensors"
_LARGEST = 1 << 31
"""Most bytes of a checkpoint; the largest in the catalogue has less than a twentieth of it."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One checkpoint of a catalogue."""

    name: str
    file: str
    """A file name without folders, the same in the package, in the cache and on every mirror."""
    size: int
    """Bytes of the file; a download stops there."""
    sha256: str
    licence: str
    summary: str
    bits: tuple[int, ...]
    classes: tuple[str, ...] = ()
    map: dict[int, float] = field(default_factory=dict)
    """Code length -> MAP over the full database."""
    embedded: bool = False
    """True if the file comes with the package."""
    mirrors: tuple[str, ...] = ()
    """Addresses of folders with the file, tried in this order."""
    imported: bool = False
    """True if the user imported it; then its entry is in the cache."""


def is_name(name: str) -> bool:
    """Return whether `name` can be a checkpoint's name, which becomes a file name: no separators, "..", or colons."""
    return bool(_NAME.fullmatch(name)) and len(name) <= _LONGEST_NAME and not name.endswith(SUFFIX)


def checked_name(name: str, *, source: str) -> str:
    """Return the name if `is_name` allows it. Raises CheckpointError naming `source`."""
    if not is_name(name):
        raise CheckpointError(
            f"{source}: {name!r} cannot be a checkpoint's name; use at most {_LONGEST_NAME} lower-case letters, "
            "digits, hyphens, underscores and single dots"
        )
    return name


def remote(address: str) -> bool:
    """Return whether `address` is an http or https URL with a host and without a user name."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False


def read_entries(path: Path, *, imported: bool = False) -> tuple[str, tuple[CatalogEntry, ...]]:
    """Return a catalogue's default address and its checkpoints. Raises CheckpointError naming the first fault.

    `imported` marks the entries as imported, and changes the advice in messages.
    """
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
    found: list[CatalogEntry] = []
    for name, table in tables.items():
        checked_name(name, source=str(path))
        fault = _fault(table)
        if fault is None and table["file"].lower() in {entry.file.lower() for entry in found}:
            fault = f"file {table['file']!r} is another checkpoint's too"
        if fault:
            raise CheckpointError(f"{path}: {name}: {fault}; {remedy}")
        found.append(_entry(name, table, imported=imported))
    return address, tuple(found)


def checked(entry: CatalogEntry, *, source: str) -> CatalogEntry:
    """Return the entry if `read_entries` will accept it once written. Raises CheckpointError naming `source`."""
    checked_name(entry.name, source=source)
    if fault := _fault(parse_toml(write_entry(entry))["checkpoints"][entry.name]):
        raise CheckpointError(f"{source}: cannot be entered into a catalogue: {fault}; correct its card")
    return entry


def write_entry(entry: CatalogEntry) -> str:
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
    # Optional keys are omitted if empty.
    table |= {key: values for key in sorted(_OPTIONAL, reverse=True) if (values := getattr(entry, key))}
    table["map"] = {str(bits): value for bits, value in entry.map.items()}
    return tomli_w.dumps({"checkpoints": {entry.name: table}})


def _entry(name: str, table: dict[str, Any], *, imported: bool) -> CatalogEntry:
    return CatalogEntry(
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
    """Return what is wrong with a checkpoint's table; None if nothing is."""
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


DOWNLOAD_SECONDS = 3600.0
"""Longest time that a process waits for another one that downloads the same file."""
_IMPORTED = "imported"


def folder(*, imported: bool = False) -> Path:
    """Return the folder of downloaded, or of imported, checkpoints; it need not exist."""
    named = resolve()["cache"].value
    if named is None:
        from platformdirs import user_cache_path

        named = user_cache_path("hashshield", appauthor=False) / "checkpoints"
    return Path(named) / _IMPORTED if imported else Path(named)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


@contextmanager
def held(path: Path) -> Iterator[Folder]:
    """Lock `path` against other processes, and yield its folder, created if missing.

    Raises CheckpointError for errors of the file system, naming the folder and HASHSHIELD_CACHE.
    """
    try:
        with Folder.made(path.parent.absolute()) as there:
            lock = Lock(there.path / lock_name(path.name), wait_seconds=DOWNLOAD_SECONDS)
            try:
                with lock:
                    yield there
            finally:
                lock.close()
    except OSError as error:
        raise CheckpointError(
            f"{path.parent}: {path.name} cannot be kept there: {explain(error)}; or name another folder with "
            "HASHSHIELD_CACHE"
        ) from error
    except StorageError as error:
        raise CheckpointError(str(error)) from error


def imported() -> tuple[CatalogEntry, ...]:
    """Return all imported checkpoints, sorted by name. Raises CheckpointError naming a damaged entry."""
    found = (imported_as(path.stem) for path in sorted(folder(imported=True).glob("*.toml")))
    return tuple(entry for entry in found if entry is not None)


def imported_as(name: str) -> CatalogEntry | None:
    """Return the imported checkpoint of that name, or None. Raises CheckpointError if its entry is damaged."""
    # The name comes from the command line and must not lead out of the folder.
    if not is_name(name) or not is_file(path := folder(imported=True) / f"{name}.toml"):
        return None
    _, entries = read_entries(path, imported=True)
    if [entry.name for entry in entries] != [name]:
        raise CheckpointError(f"{path}: is not the entry of {name}; remove it and import the checkpoint again")
    return entries[0] if is_file(path.parent / entries[0].file) else None


def install(source: Path, entry: CatalogEntry) -> Path:
    """Copy a tested checkpoint into the cache; return its path. The bytes must have the entry's digest.

    Raises CheckpointError, also if the file changed since its digest was computed.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror})") from error
    if digest(data) != entry.sha256:
        raise CheckpointError(f"{source}: changed while it was looked at; import it again when it is finished")
    target = folder(imported=entry.imported) / entry.file
    with held(target) as there:
        _put(there, entry.file, data, entry)
        if entry.imported:
            # Last, because the entry makes the checkpoint known.
            _put(there, f"{entry.name}.toml", write_entry(entry).encode(), entry)
    return target


def remove(entry: CatalogEntry) -> bool:
    """Remove a checkpoint's file, its partial downloads and, if imported, its entry; return whether the file existed.

    Raises CheckpointError.
    """
    target = folder(imported=entry.imported) / entry.file
    if not is_folder(target.parent):
        return False
    with held(target) as there:
        names = there.names()
        ours = {entry.file, f"{entry.name}.toml"} if entry.imported else {entry.file}
        for name in names:
            # The lock stays: another process may be waiting for it.
            if name in ours or (name.startswith(f".{entry.file}.") and name != lock_name(entry.file)):
                there.remove(name)
    return entry.file in names


def lock_name(file: str) -> str:
    """Return the name of the lock file for the file of that name."""
    return f".{file}.lock"


def _put(there: Folder, name: str, data: bytes, entry: CatalogEntry) -> None:
    temporary = f".{entry.file}.new"
    # Left by a killed process; thanks to the lock no other process is writing it.
    there.remove(temporary)
    put(there, name, data, temporary=temporary)
