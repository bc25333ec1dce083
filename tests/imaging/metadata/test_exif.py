from __future__ import annotations

import io
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging_samples import exif_block, exif_segment, jpeg, scene, with_segments, xmp_segment
from PIL import Image

from hashshield import imaging
from hashshield.imaging.metadata.exif import parse_exif, read_orientation


@pytest.mark.parametrize("order", ["little", "big"])
def test_directories_are_walked(order: str) -> None:
    block = parse_exif(exif_block(orientation=6, thumbnail=jpeg(scene(32, 40)), gps=True, order=order))
    assert block is not None
    assert block.valid
    assert list(block.directories) == ["0th", "Exif", "GPS", "1st"]
    assert block.integer(block.find("0th", 0x0112)) == 6
    serial = block.find("Exif", 0xA431)
    assert serial is not None
    assert block.value(serial) == b"SN-12345678\0"
    assert block.find("GPS", 0x0112) is None


@pytest.mark.parametrize(
    "data", [b"", b"II*\0", b"II*\0\x08\0\0", b"/etc/passwd", b"MM*\0\0\0\0\x08", b"II+\0\x08\0\0\0"]
)
def test_what_does_not_begin_as_tiff_is_no_block(data: bytes) -> None:
    assert parse_exif(data) is None


def test_loops_and_huge_counts_end() -> None:
    loop = bytearray(exif_block(thumbnail=jpeg(scene(32, 40))))
    link = 8 + 2 + 12 * 2
    loop[link : link + 4] = (8).to_bytes(4, "little")
    block = parse_exif(bytes(loop))
    assert block is not None
    assert not block.valid
    huge = bytearray(exif_block())
    huge[8:10] = b"\xff\xff"
    block = parse_exif(bytes(huge))
    assert block is not None
    assert not block.valid
    many = bytearray(exif_block())
    many[14:18] = b"\xff\xff\xff\xff"
    block = parse_exif(bytes(many))
    assert block is not None
    assert not block.valid


@given(data=st.binary(max_size=200), position=st.integers(0, 400))
def test_no_value_lies_outside_the_block(data: bytes, position: int) -> None:
    whole = bytearray(exif_block(gps=True, thumbnail=b"\xff\xd8\xff" * 30))
    whole[position : position + len(data)] = data
    whole[:4] = b"II*\0"
    block = parse_exif(bytes(whole))
    assert block is not None
    for entry in block.entries:
        assert entry.start >= 0
        assert entry.start + entry.size <= len(whole)
        assert len(block.value(entry)) == entry.size


@pytest.mark.parametrize(
    ("exif_data", "xmp", "expected"),
    [
        (None, None, 1),
        (exif_block(orientation=6), None, 6),
        (exif_block(orientation=6), b'tiff:Orientation="3"', 6),
        (exif_block(orientation=0), b'tiff:Orientation="3"', 1),
        (exif_block(orientation=9), None, 1),
        (None, b'<r tiff:Orientation="8"/>', 8),
        (None, b"<tiff:Orientation>5</tiff:Orientation>", 5),
        (None, b'tiff:Orientation="9"', 1),
        (b"Exif\0\0Exif\0\0" + exif_block(orientation=7), None, 7),
        (b"nonsense", b'tiff:Orientation="2"', 2),
    ],
)
def test_orientation_is_decided_as_pillow_does(exif_data: bytes | None, xmp: bytes | None, expected: int) -> None:
    assert read_orientation(exif_data, xmp) == expected
    if exif_data != b"nonsense":
        assert _pillow(exif_data, xmp) in ({expected} if expected != 1 else {None, 0, 1, 9})


def test_orientation_in_two_exif_segments() -> None:
    block = exif_block(orientation=4, thumbnail=jpeg(scene(40, 50)))
    data = with_segments(jpeg(scene()), exif_segment(block[:90]), exif_segment(block[90:]))
    assert imaging.read(data, name="x").orientation == 4


def _pillow(exif_data: bytes | None, xmp: bytes | None) -> object:
    added = []
    if exif_data:
        added.append(exif_segment(exif_data.removeprefix(b"Exif\0\0")))
    if xmp:
        added.append(xmp_segment(xmp))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(with_segments(jpeg(scene()), *added))).getexif().get(0x0112)
