from __future__ import annotations

import io
import subprocess
import sys

import pytest
from imaging_samples import scene
from PIL import Image

from hashshield.imaging import SUPPORTED, sniff


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("TIFF", "tiff"),
        ("BMP", "bmp"),
        ("PPM", "pnm"),
        ("ICO", "ico"),
        ("JPEG2000", "jp2"),
        ("QOI", "qoi"),
        ("DDS", "dds"),
        ("EPS", "eps"),
    ],
)
def test_files_written_by_pillow_are_named(kind: str, name: str) -> None:
    out = io.BytesIO()
    Image.fromarray(scene(32, 32)).save(out, kind)
    assert sniff(out.getvalue()[:64]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "avif"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", "avif"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0crx isom", "raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"8BPS\0\1", "psd"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\xff\x0a\xfa\x1f", "jxl"),
        (b"v/1\x01", "exr"),
        (b"#?RADIANCE\n", "hdr"),
    ],
)
def test_other_signatures_are_named(head: bytes, name: str) -> None:
    assert sniff(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"BM, not a bitmap",
        b"PK\x03\x04",
        b"%PDF-1.7",
        b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
        b"RIFF\0\0\0\0AVI ",
        b"P9 nothing",
        b"\x89PNG\r\n",
        b"<?xml version='1.0'?><svg/>",
        b"Point 1\n",
    ],
)
def test_everything_else_is_no_image(head: bytes) -> None:
    assert sniff(head) is None


def test_supported_containers_are_those_that_can_be_read() -> None:
    assert frozenset({"jpeg", "png", "webp"}) == SUPPORTED


def test_sniffing_needs_no_pillow() -> None:
    code = (
        "import sys; from hashshield.imaging import sniff; assert sniff(b'GIF89a') == 'gif';"
        "assert not {'PIL', 'piexif', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
