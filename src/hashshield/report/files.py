"""The two files of a row, read again: the original and what became of it."""

from __future__ import annotations

from pathlib import Path

from hashshield import imaging
from hashshield.errors import HashshieldError, PhotoError
from hashshield.imaging import Pixels
from hashshield.imaging.file import read_photo_file
from hashshield.models.hash_files import upright_rgb
from hashshield.storage import Store, digest
from hashshield.types import Evaluation, Outcome

__all__ = ["pair", "shown_pair"]


def pair(row: Outcome | Evaluation, store: Store | None) -> tuple[Pixels, Pixels]:
    """The (H, W, 3) original and result of a row, upright.

    The original of a photo that was changed in place comes from the vault. Raises PhotoError, StorageError, also when
    a file is no longer what the row is about.
    """
    if isinstance(row, Evaluation):
        before, after = _read(Path(row.original)), _read(Path(row.protected))
    else:
        after = _read(Path(row.output or row.path))
        if digest(after) != row.sha256_after:
            raise PhotoError(f"{row.output or row.path}: was changed or moved since it was protected")
        before = _original(row, store)
    return shown_pair(before, after, name=row.path if isinstance(row, Outcome) else row.protected)


def shown_pair(before: bytes, after: bytes, *, name: str) -> tuple[Pixels, Pixels]:
    """Both files as a viewer shows them, (H, W, 3) each. Raises PhotoError, also when their sizes differ."""
    one, other = (upright_rgb(imaging.read(data, name=name)) for data in (before, after))
    if one.shape != other.shape:
        raise PhotoError(f"{name}: the two photos differ in size, so they cannot be laid over each other")
    return one, other


def _original(row: Outcome, store: Store | None) -> bytes:
    if row.output is not None:
        try:
            data = _read(Path(row.path))
        except HashshieldError:
            data = b""
        if digest(data) == row.sha256_before:
            return data
    if store is None:
        raise PhotoError(f"{row.path}: its original is not known here")
    if row.sha256_before is not None:
        return store.vault.get(row.sha256_before)
    known = store.known(row.sha256_after or "")
    if known is None:
        raise PhotoError(f"{row.path}: the ledger no longer knows its original")
    return store.original(known)


def _read(path: Path) -> bytes:
    return read_photo_file(path, follow=True).data
