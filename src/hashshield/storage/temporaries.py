"""Names of temporary files: unique, hidden, and recognisable as ours after a crash."""

from __future__ import annotations

import secrets

__all__ = ["is_temporary", "temporary_name"]

_PREFIX = ".hashshield-"
_SUFFIX = ".tmp"


def temporary_name() -> str:
    """Return a fresh name for a temporary file."""
    return f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Whether a file name is one of ours for temporary files."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)
