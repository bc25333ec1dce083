"""The folder of real camera files: where it is, and whether a written file kept its metadata."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashshield import imaging
from hashshield.imaging.jpeg import markers
from hashshield.imaging.jpeg.metadata import SegmentFindings

__all__ = ["check_metadata", "files", "named_folder"]


def named_folder() -> Path:
    """The folder HASHSHIELD_TEST_CAMERA_FILES names; the test is left out where it names none."""
    named = os.environ.get("HASHSHIELD_TEST_CAMERA_FILES")
    if not named:
        pytest.skip("HASHSHIELD_TEST_CAMERA_FILES does not name the folder of camera files")
    return Path(named)


def files(folder: Path) -> list[Path]:
    """Every file below the folder, whatever it is."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check_metadata(photo: imaging.Photo, written: bytes) -> int:
    """Segments of a JPEG are the same bytes in the same order, the bytes of re-made thumbnails apart.

    So is what follows the photo; returns the number of segments that were compared.
    """
    before, _ = markers.walk(photo.source, name="before")
    after, end = markers.walk(written, name="after")
    findings: SegmentFindings = photo.encoding.findings  # type: ignore[attr-defined]
    kept = [(index, item) for index, item in enumerate(before) if markers.is_metadata(item.marker)]
    found = [item for item in after if markers.is_metadata(item.marker)]
    assert [item.marker for _, item in kept] == [item.marker for item in found]
    for (index, old), new in zip(kept, found, strict=True):
        assert _without_thumbnails(old, findings, index) == _without_thumbnails(new, findings, index)
    assert written[end:] == photo.encoding.tail  # type: ignore[attr-defined]
    return len(kept)


def _without_thumbnails(item: markers.Segment, findings: SegmentFindings, index: int) -> bytes:
    payload = bytearray(item.payload)
    for spot in findings.redrawn[index]:
        payload[spot.start : spot.end] = bytes(spot.end - spot.start)
    return bytes(payload)
