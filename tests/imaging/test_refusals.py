"""What cannot be protected: one clear line each, that names the file, what was found and what to do."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from imaging_samples import jpeg, png, scene
from PIL import Image

from hashshield import imaging
from hashshield.errors import BrokenPhotoError, NotAPhotoError, PhotoError, UnsupportedError
from hashshield.imaging.jpeg import markers
from hashshield.imaging.jpeg.markers import segment, walk
from hashshield.imaging.png_chunks import SIGNATURE, chunk


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(scene(48, 64)).convert(mode)


def frame_patched(data: bytes, *, marker: int | None = None, **fields: int) -> bytes:
    out = []
    for item in walk(data, name="x")[0]:
        if item.marker in markers.SOF:
            body = bytearray(item.payload)
            body[0] = fields.get("bits", body[0])
            body[1:3] = fields.get("height", int.from_bytes(body[1:3], "big")).to_bytes(2, "big")
            body[3:5] = fields.get("width", int.from_bytes(body[3:5], "big")).to_bytes(2, "big")
            item = segment(marker or item.marker, bytes(body))
        out.append(item)
    return markers.join(out)


def png_header(width: int, height: int, depth: int, colour: int) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, 0, 0, 0))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 10)), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(item.data for item in parts)


JPEG = jpeg(scene(48, 64))
PNG = png(scene(48, 64))
WEBP = saved(picture(), "WEBP")
FRAMES = {"save_all": True, "append_images": [Image.fromarray(scene(48, 64, seed=2))]}

CASES: list[tuple[str, bytes, type[PhotoError], str]] = [
    ("empty", b"", NotAPhotoError, "is empty"),
    ("text", b"hello, world", NotAPhotoError, "not an image"),
    ("gif", saved(picture(), "GIF"), UnsupportedError, "GIF is not supported"),
    ("tiff", saved(picture(), "TIFF"), UnsupportedError, "TIFF is not supported"),
    ("bmp", saved(picture(), "BMP"), UnsupportedError, "BMP is not supported"),
    ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", BrokenPhotoError, "structure is damaged"),
    ("eps", saved(picture(), "EPS"), UnsupportedError, "EPS is not supported"),
    ("cmyk", saved(picture("CMYK"), "JPEG"), UnsupportedError, "CMYK JPEG is not supported; convert it to RGB"),
    ("small jpeg", jpeg(scene(31, 64)), UnsupportedError, "64x31 pixels is too small"),
    ("small png", png(scene(64, 31)), UnsupportedError, "31x64 pixels is too small"),
    ("small webp", saved(picture().resize((64, 31)), "WEBP"), UnsupportedError, "64x31 pixels is too small"),
    ("huge png", png_header(20_000, 20_000, 8, 2), UnsupportedError, "limit of 200 megapixels"),
    ("huge jpeg", frame_patched(JPEG, width=65_000, height=65_000), UnsupportedError, "limit of 200 megapixels"),
    ("hollow jpeg", frame_patched(JPEG, width=16_000, height=12_000), BrokenPhotoError, "too few bytes"),
    ("arithmetic", frame_patched(JPEG, marker=0xC9), UnsupportedError, "arithmetic-coded JPEG"),
    ("lossless jpeg", frame_patched(JPEG, marker=0xC3), UnsupportedError, "lossless JPEG"),
    ("hierarchical", frame_patched(JPEG, marker=0xC5), UnsupportedError, "hierarchical JPEG"),
    ("12 bits", frame_patched(JPEG, marker=0xC1, bits=12), UnsupportedError, "12 bits per sample"),
    ("late height", frame_patched(JPEG, height=0), UnsupportedError, "DNL"),
    ("jpeg-ls", b"\xff\xd8" + segment(0xF7, bytes(8)).data + b"\xff\xd9", UnsupportedError, "JPEG-LS"),
    ("palette", saved(picture("P"), "PNG"), UnsupportedError, "palette is not supported"),
    ("1 bit", saved(picture("1"), "PNG"), UnsupportedError, "1 bits per channel"),
    ("16 bits grey", saved(picture("I;16"), "PNG"), UnsupportedError, "16 bits per channel"),
    ("16 bits", png_header(64, 64, 16, 2), UnsupportedError, "16 bits per channel"),
    ("apng", saved(picture(), "PNG", **FRAMES), UnsupportedError, "animated PNG"),
    ("cgbi", SIGNATURE + chunk(b"CgBI", b"\x50\0\x20\2").data + PNG[8:], UnsupportedError, "Apple's app format"),
    ("animated webp", saved(picture(), "WEBP", **FRAMES), UnsupportedError, "animated WebP"),
    ("cut jpeg", JPEG[: len(JPEG) // 2], BrokenPhotoError, "ends inside its picture data"),
    ("no end", JPEG[:-2], BrokenPhotoError, "ends inside its picture data"),
    ("cut header", JPEG[:100], BrokenPhotoError, "JPEG"),
    ("stray marker", JPEG[:-30] + b"\xff\x1f" + JPEG[-30:], BrokenPhotoError, "stray marker FF1F"),
    ("no picture", b"\xff\xd8\xff\xfe\0\2\xff\xd9", BrokenPhotoError, "no picture"),
    ("no tables", markers.join(s for s in walk(JPEG, name="x")[0] if s.marker != 0xDB), BrokenPhotoError, "table"),
    ("cut png", PNG[:-20], BrokenPhotoError, "in the middle of a chunk"),
    ("png checksum", PNG[:60] + bytes((PNG[60] ^ 1,)) + PNG[61:], BrokenPhotoError, "wrong checksum in chunk IDAT at"),
    ("png chunk of any bytes", PNG[:37] + b"\nD\0T" + PNG[41:], BrokenPhotoError, "checksum in chunk \\nD\\x00T at"),
    ("png without data", png_header(64, 64, 8, 2), BrokenPhotoError, "damaged or incomplete"),
    ("cut webp", WEBP[:-20], BrokenPhotoError, "shorter than it says"),
    ("empty webp", b"RIFF\4\0\0\0WEBP", BrokenPhotoError, "does not hold one picture"),
]


@pytest.mark.parametrize(("data", "kind", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused_with_one_line(data: bytes, kind: type[PhotoError], message: str) -> None:
    with pytest.raises(kind) as caught:
        imaging.read(data, name="holiday.jpg")
    text = str(caught.value)
    assert text.startswith("holiday.jpg: ")
    assert message in text
    assert "\n" not in text


def test_many_scans_are_refused_before_they_cost_time() -> None:
    segments, _ = walk(jpeg(scene(48, 64), progressive=True), name="x")
    last = segments[-1]
    body = next(s for s in segments if s.marker in markers.SOF)
    patched = bytearray(body.payload)
    patched[1:5] = (4000).to_bytes(2, "big") * 2
    many = [segment(s.marker, bytes(patched)) if s is body else s for s in segments] + [last] * 2000
    with pytest.raises(UnsupportedError, match="scans are more than a photo has"):
        imaging.read(markers.join(many), name="x")


def test_a_scan_that_stops_early_but_ends_properly_is_a_photo() -> None:
    """The decoder fills up with grey and does not tell; viewers show it so."""
    assert imaging.read(JPEG[:-40] + b"\xff\xd9", name="x").pixels.shape == (48, 64, 3)


def test_exit_code_of_a_refusal_is_one() -> None:
    with pytest.raises(PhotoError) as caught:
        imaging.read(b"", name="x")
    assert caught.value.exit_code == 1


def test_pillows_own_limit_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    imaging.read(JPEG, name="x")
    assert before == Image.MAX_IMAGE_PIXELS
    assert np.array_equal(imaging.read(PNG, name="x").pixels, scene(48, 64))
