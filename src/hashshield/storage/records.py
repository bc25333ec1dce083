"""Rows of the ledger as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["NewRecord", "PendingRecord", "Record", "RecordKind", "RecordState"]

RecordKind = Literal["protect", "copy", "restore"]
"""What was done: a photo replaced in place, a protected copy written elsewhere, an original brought back."""

RecordState = Literal["intent", "done", "restored"]
"""Announced; carried out; carried out and later taken back."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing done to one file."""

    id: int
    kind: RecordKind
    state: RecordState
    path: Path
    """Absolute, as of then."""
    sha256_before: str
    """The original's digest: what `restore` goes back to. For a restore, the digest of what it replaced."""
    sha256_replaced: str | None
    """What the file held just before; other than `sha256_before` when a protected file was protected anew.
    None: there was no file."""
    sha256_after: str
    pixels_after: str | None
    """Digest of the decoded pixels written, to recognise a file of which only the metadata was edited."""
    original: str | None
    """Vault id of the original; None when none was kept."""
    kept: str | None
    """Vault id of what was replaced, where that was neither the original nor a recorded result (an edit)."""
    pruned: bool
    """The original was kept, and deleted at the user's wish since."""
    created: str
    """ISO 8601, UTC."""
    tool: str
    """Version that did it."""
    run: str
    """One id per process run."""
    mode: int
    """The original's permission bits."""
    mtime_ns: int
    """The original's modification time."""
    size: int
    """The original's size in bytes."""
    undoes: int | None
    """For a restore: the row it takes back."""
    details: Mapping[str, Any] = field(hash=False)
    """What the pipeline had to say, as it said it; the ledger does not look inside."""

    @property
    def restorable(self) -> bool:
        """Whether the original was kept and not pruned."""
        return self.original is not None and not self.pruned


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What the pipeline adds to what the store finds out itself."""

    pixels_after: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """JSON-serialisable."""
    again: Record | None = None
    """The earlier row whose original was protected anew; its original stays the one `restore` goes back to."""


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A row about to be written; fields as in Record."""

    kind: RecordKind
    path: Path
    sha256_after: str
    created: str
    tool: str
    run: str
    sha256_before: str = ""
    sha256_replaced: str | None = None
    pixels_after: str | None = None
    original: str | None = None
    kept: str | None = None
    mode: int = 0o600
    mtime_ns: int = 0
    size: int = 0
    undoes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
