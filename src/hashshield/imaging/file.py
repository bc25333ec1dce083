"""Reading a photo's file, and of other files no more than their first bytes."""

from __future__ import annotations

from pathlib import Path

from hashshield.imaging.formats import HEAD_BYTES, sniff
from hashshield.storage import Snapshot, read_snapshot

__all__ = ["is_image", "read_photo_file"]


def is_image(head: bytes) -> bool:
    """Return whether a file that begins like this is of an image format known here; not whether it can be decoded."""
    return sniff(head[:HEAD_BYTES]) is not None


def read_photo_file(path: Path, *, follow: bool, within: Path | None = None) -> Snapshot:
    """Read a file as `storage.read_snapshot` does, if it begins as an image does.

    Raises NotAPhotoError for one that does not, whatever its size without reading it; and as `read_snapshot`.
    """
    return read_snapshot(path, follow=follow, within=within, accept=is_image)
