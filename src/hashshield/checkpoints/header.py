"""The card and the catalogue entry of a checkpoint file, read without torch: shells ask for class names at a TAB."""

from __future__ import annotations

import struct
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.card import Card
from hashshield.checkpoints.entry import Entry, checked, checked_name
from hashshield.errors import CheckpointError

__all__ = ["entry_of", "read_card"]

_LARGEST_HEADER = 16 * 1024 * 1024


def read_card(path: Path) -> Card:
    """Read only the card. Raises CheckpointError."""
    _check_header(path)
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
    if "card" not in metadata:
        raise CheckpointError(f"{path}: a safetensors file without a hashshield card; write it with `hashshield train`")
    return Card.from_json(metadata["card"], source=str(path))


def entry_of(path: Path, *, embedded: bool = False, imported: bool = False) -> Entry:
    """Return the catalogue entry of a checkpoint file, as its card describes it. Raises CheckpointError."""
    card = read_card(path)
    name = checked_name(card.name, source=str(path))
    entry = Entry(
        name=name,
        file=f"{name}.safetensors",
        size=path.stat().st_size,
        sha256=digest_of(path),
        licence=card.licence or "unknown",
        summary=f"{card.arch} on {card.dataset}, codes of {', '.join(map(str, card.bits))} bits",
        bits=card.bits,
        map={int(bits): value for bits, value in card.map.items()},
        embedded=embedded,
        imported=imported,
    )
    return checked(entry, source=str(path))


def _check_header(path: Path) -> None:
    """Look at the first bytes before any library does: a pickle or an absurd header is named as such."""
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    # A safetensors header may begin with these bytes too: its length comes first, and then always a brace.
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise CheckpointError(f"{path}: this is a pickle, which can run code; only safetensors files are loaded")
    if len(head) < 16:
        raise CheckpointError(f"{path}: {size} bytes are no safetensors file; fetch it again")
    (length,) = struct.unpack("<Q", head[:8])
    if length > min(size - 8, _LARGEST_HEADER):
        raise CheckpointError(f"{path}: the header claims {length} bytes of a file of {size}; fetch it again")
