"""The cache: downloaded checkpoints, and imported ones with a catalogue entry each beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashshield.checkpoints.entry import CatalogEntry, is_name, read_entries, write_entry
from hashshield.config import resolve
from hashshield.errors import CheckpointError, StorageError
from hashshield.storage.atomic import Lock, put
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import explain
from hashshield.storage.snapshot import digest

__all__ = [
    "DOWNLOAD_SECONDS",
    "digest_of",
    "folder",
    "held",
    "imported",
    "imported_as",
    "install",
    "is_here",
    "lock_name",
    "remove",
]

DOWNLOAD_SECONDS = 3600.0
"""How long one process waits for another that downloads the same file."""
_IMPORTED = "imported"


def folder(*, imported: bool = False) -> Path:
    """The folder of downloaded or of imported checkpoints; it need not exist."""
    named = resolve()["cache"].value
    if named is None:
        from platformdirs import user_cache_path

        named = user_cache_path("hashshield", appauthor=False) / "checkpoints"
    return Path(named) / _IMPORTED if imported else Path(named)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal; raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def is_here(path: Path) -> bool:
    """Whether there is such a file; one in a folder that may not be looked into is not."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def held(path: Path) -> Iterator[Folder]:
    """The folder of `path`, made if it is missing, while no other process works on that file.

    What the file system refuses becomes a CheckpointError that names the folder and HASHSHIELD_CACHE.
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
    """Every imported checkpoint, by name. Raises CheckpointError naming an entry that is damaged."""
    found = (imported_as(path.stem) for path in sorted(folder(imported=True).glob("*.toml")))
    return tuple(entry for entry in found if entry is not None)


def imported_as(name: str) -> CatalogEntry | None:
    """The imported checkpoint of that name, if there is one. Raises CheckpointError when its entry is damaged."""
    # A name comes from the command line: what leads out of the folder is nobody's name.
    if not is_name(name) or not is_here(path := folder(imported=True) / f"{name}.toml"):
        return None
    _, entries = read_entries(path, imported=True)
    if [entry.name for entry in entries] != [name]:
        raise CheckpointError(f"{path}: is not the entry of {name}; remove it and import the checkpoint again")
    return entries[0] if is_here(path.parent / entries[0].file) else None


def install(source: Path, entry: CatalogEntry) -> Path:
    """Copy a checkpoint that was looked at into its place; the copy must have the entry's digest.

    Raises CheckpointError, also when the file changed since its digest was taken.
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
            # Last, because it is what makes the checkpoint known.
            _put(there, f"{entry.name}.toml", write_entry(entry).encode(), entry)
    return target


def remove(entry: CatalogEntry) -> bool:
    """Remove a checkpoint's file, what is left of its downloads, and an imported one's entry; whether it was there."""
    target = folder(imported=entry.imported) / entry.file
    if not target.parent.is_dir():
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
    """Name of the file whose lock guards the file of that name."""
    return f".{file}.lock"


def _put(there: Folder, name: str, data: bytes, entry: CatalogEntry) -> None:
    temporary = f".{entry.file}.new"
    # What a killed process left; the lock says that none is at work.
    there.remove(temporary)
    put(there, name, data, temporary=temporary)
