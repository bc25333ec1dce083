"""Checkpoints that are here: looked at as a whole, and the user's own taken in."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.entry import SUFFIX, Entry
from hashshield.checkpoints.header import entry_of
from hashshield.errors import CheckpointError, UsageError
from hashshield.models.load import open_models

__all__ = ["import_model", "look_at"]

_ONNX = ".onnx"


def look_at(entry: Entry) -> None:
    """Check the digest of an installed checkpoint and open it at every code length. Raises CheckpointError."""
    open_models([f"{entry.name}:{bits}" for bits in entry.bits])


def import_model(path: Path, *, card: Path | None = None) -> Entry:
    """Take a file in under its card's name, after a look at every code length; the entry it has from now on.

    A network in ONNX has its `card` beside it, a checkpoint inside. Raises UsageError for a kind of file that cannot be
    taken in, CheckpointError for one that does not hold what it should or whose name is taken.
    """
    suffix = path.suffix.lower()
    if suffix not in (SUFFIX, _ONNX):
        raise UsageError(f"{path}: files that can be imported end with {SUFFIX} or {_ONNX}")
    if (card is None) == (suffix == _ONNX):
        raise UsageError(f"{path}: --card is given for {_ONNX}, and for nothing else")
    if card is None:
        return _taken_in(path, path, "use this file by its path")
    from hashshield.models.onnx import import_onnx

    with TemporaryDirectory(prefix="hashshield-") as folder:
        made = Path(folder) / f"network{SUFFIX}"
        import_onnx(path, card, made)
        return _taken_in(made, path, f"give it another name in {card}")


def _taken_in(path: Path, source: Path, otherwise: str) -> Entry:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    entry = entry_of(path, imported=True)
    open_models([f"{path}:{bits}" for bits in entry.bits])
    entry = _placed(entry, source, otherwise)
    cache.install(path, entry)
    return entry


def _placed(entry: Entry, path: Path, otherwise: str) -> Entry:
    """The entry to install: one of the catalogue's when it is that very file, whoever brought it."""
    for listed in catalog.known():
        if listed.name != entry.name or (listed.imported and listed.sha256 == entry.sha256):
            continue
        if listed.sha256 != entry.sha256 or listed.embedded:
            known = "comes with the package" if listed.embedded else "is another checkpoint's name"
            remedy = f"`hashshield models remove {entry.name}` first, or " if listed.imported else ""
            raise CheckpointError(f"{path}: {entry.name} {known} already; {remedy}{otherwise}")
        return listed
    return entry
