from __future__ import annotations

import io
import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_samples import ICC, exif_block, png, scene
from PIL import Image, ImageOps

from hashshield import imaging
from hashshield.imaging.png_chunks import SIGNATURE, PngChunk, chunk, chunks

ANCILLARY = [
    chunk(b"gAMA", (45455).to_bytes(4, "big")),
    chunk(b"cHRM", b"".join(n.to_bytes(4, "big") for n in (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))),
    chunk(b"sRGB", b"\0"),
    chunk(b"cICP", b"\x0c\x0d\0\1"),
    chunk(b"pHYs", (2835).to_bytes(4, "big") * 2 + b"\1"),
    chunk(b"tIME", b"\x07\xe8\1\2\3\4\5"),
    chunk(b"prIv", b"unknown, safe to copy"),
]
TEXTS = [
    chunk(b"tEXt", b"Comment\0plain"),
    chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"packed")),
    chunk(b"iTXt", b"Comment\0\0\0en\0\0" + "größer".encode()),
]


def build(data: bytes, before: list[PngChunk], after: list[PngChunk]) -> bytes:
    held, _ = chunks(data, name="x")
    first = next(i for i, item in enumerate(held) if item.kind == b"IDAT")
    out = [*held[:first], *before, *held[first:-1], *after, held[-1]]
    return SIGNATURE + b"".join(item.data for item in out)


def others(data: bytes) -> list[bytes]:
    return [item.data for item in chunks(data, name="x")[0] if item.kind not in (b"IDAT", b"IHDR")]


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(32, 60),
    width=st.integers(32, 60),
    before=st.lists(st.sampled_from(ANCILLARY + TEXTS), unique_by=lambda c: c.kind, max_size=6),
    after=st.lists(st.sampled_from(TEXTS), unique_by=lambda c: c.kind, max_size=2),
    orientation=st.integers(1, 8),
    icc=st.booleans(),
)
def test_round_trip(
    channels: int, height: int, width: int, before: list[PngChunk], after: list[PngChunk], orientation: int, icc: bool
) -> None:
    pixels = scene(height, width, channels)
    if channels in (2, 4):
        pixels[:5, :7, -1] = 0
    data = png(pixels, icc_profile=ICC if icc else None)
    data = build(data, [*before, chunk(b"eXIf", exif_block(orientation=orientation))], after)
    photo = imaging.read(data, name="photo.png")
    assert photo.lossless
    assert photo.orientation == orientation
    assert np.array_equal(photo.pixels, pixels[..., : 1 if channels < 3 else 3])
    assert (photo.alpha is None) == (channels in (1, 3))

    wanted = photo.pixels ^ 3
    written = imaging.write(photo, wanted)
    again = imaging.read(written, name="photo.png")
    assert others(written) == others(data)
    if photo.alpha is not None:
        wanted[photo.alpha == 0] = photo.pixels[photo.alpha == 0]
        assert again.alpha is not None
        assert np.array_equal(again.alpha, photo.alpha)
    assert np.array_equal(again.pixels, wanted)
    assert len(written) < 1.25 * len(data)


def test_colour_key_is_alpha_and_stays() -> None:
    pixels = scene(40, 50)
    pixels[:10, :10] = (200, 100, 50)
    data = build(png(pixels), [chunk(b"tRNS", b"\0\xc8\0\x64\0\x32")], [])
    photo = imaging.read(data, name="x")
    assert photo.alpha is not None
    hidden = photo.alpha == 0
    assert hidden[:10, :10].all()
    assert set(np.unique(photo.alpha)) == {0, 255}

    wanted = photo.pixels ^ 1
    wanted[20, 20] = (200, 100, 50)
    again = imaging.read(imaging.write(photo, wanted), name="x")
    assert again.alpha is not None
    assert np.array_equal(again.alpha, photo.alpha)
    assert np.array_equal(again.pixels[20, 20], photo.pixels[20, 20])
    assert np.array_equal(again.pixels[hidden], photo.pixels[hidden])
    shown = np.asarray(Image.open(io.BytesIO(imaging.write(photo, wanted))).convert("RGBA"))
    assert np.array_equal(shown[..., 3], photo.alpha)


def test_grey_colour_key() -> None:
    pixels = scene(40, 50, 1)
    pixels[:4] = 77
    photo = imaging.read(build(png(pixels), [chunk(b"tRNS", b"\0\x4d")], []), name="x")
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha == 0, pixels[..., 0] == 77)
    assert imaging.read(imaging.write(photo, pixels), name="x").pixels.shape == (40, 50, 1)


def test_interlacing_is_dropped_and_nothing_else() -> None:
    pixels = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    data = _interlaced(pixels)
    photo = imaging.read(data, name="x")
    assert np.array_equal(photo.pixels, pixels)
    written = imaging.write(photo, pixels ^ 1)
    header = chunks(written, name="x")[0][0].payload
    assert header[:12] == chunks(data, name="x")[0][0].payload[:12]
    assert header[12] == 0
    assert np.array_equal(imaging.read(written, name="x").pixels, pixels ^ 1)


def test_apples_pointer_into_old_image_data_goes() -> None:
    photo = imaging.read(build(png(scene()), [chunk(b"iDOT", bytes(28))], []), name="x")
    assert b"iDOT" not in imaging.write(photo, photo.pixels)


def test_orientation_from_text_profile_and_xmp_as_pillow_reads_it() -> None:
    block = exif_block(orientation=8)
    profile = b"Raw profile type exif\0\nexif\n%8d\n" % len(block) + _hex_lines(block)
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'
    for extra, expected in (
        ([chunk(b"tEXt", profile)], 8),
        ([chunk(b"zTXt", profile.split(b"\0")[0] + b"\0\0" + zlib.compress(profile.split(b"\0", 1)[1]))], 8),
        ([chunk(b"iTXt", xmp)], 3),
        ([chunk(b"iTXt", xmp), chunk(b"tEXt", profile)], 8),
        ([chunk(b"eXIf", exif_block(orientation=2)), chunk(b"tEXt", profile)], 2),
    ):
        data = build(png(scene(40, 60)), extra, [])
        photo = imaging.read(data, name="x")
        assert photo.orientation == expected
        shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert np.array_equal(imaging.to_display_orientation(photo.pixels, photo.orientation), shown)


def test_trailing_data_is_kept_and_told() -> None:
    photo = imaging.read(png(scene()) + b"more", name="x")
    assert photo.unprotected_copies == ("trailing data (4 bytes)",)
    assert imaging.write(photo, photo.pixels).endswith(b"more")


def _hex_lines(block: bytes) -> bytes:
    digits = block.hex().encode()
    return b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72)) + b"\n"


def _interlaced(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx])
    height, width = pixels.shape[:2]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\1"
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(item.data for item in parts)
