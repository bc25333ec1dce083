from __future__ import annotations

import zlib

import pytest
from imaging_samples import ICC, XMP, exif_block, jpeg, png, scene

from hashshield import imaging
from hashshield.imaging.png_chunks import SIGNATURE, PngChunk, chunk, chunks

GPS = imaging.StripOptions(gps=True)
COPIES = imaging.StripOptions(copies=True)
PACKET = b'<r exif:GPSLatitude="48,12N" dc:title="kept"/>'
IPTC = b"8BIM\x04\x04\0\0\0\0\0\x0e\x1c\x02\x5a\0\x09Frankfurt"


def profile(block: bytes, name: bytes = b"xmp") -> bytes:
    """As ImageMagick writes it."""
    digits = block.hex().encode()
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return b"\n%s\n%8d\n%s\n" % (name, len(block), lines)


def text_chunk(keyword: bytes, value: bytes, kind: bytes = b"zTXt") -> PngChunk:
    if kind == b"tEXt":
        return chunk(kind, keyword + b"\0" + value)
    if kind == b"iTXt":
        return chunk(kind, keyword + b"\0\0\0\0\0" + value)
    return chunk(kind, keyword + b"\0\0" + zlib.compress(value))


def photo_with(*added: PngChunk) -> imaging.Photo:
    held = chunks(png(scene()), name="x")[0]
    held[1:1] = added
    return imaging.read(SIGNATURE + b"".join(item.data for item in held), name="x")


def stripped(photo: imaging.Photo, strip: imaging.StripOptions) -> imaging.Photo:
    return imaging.read(imaging.write(photo, photo.pixels, strip=strip), name="x")


def texts(photo: imaging.Photo) -> list[PngChunk]:
    return [item for item in chunks(photo.source, name="x")[0] if item.kind.endswith(b"Xt")]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize(
    ("name", "block"),
    [
        (b"xmp", PACKET),
        (b"APP1", XMP + PACKET),
        (b"xmp", b"\n " + PACKET),
        (b"8bim", b"8BIM\x04\x24\0\0\0\0\0\x2e" + PACKET),
        (b"APP1", b"Exif\0\0" + exif_block(gps=True)),
        (b"generic", exif_block(gps=True)),
    ],
)
def test_positions_in_profiles_are_reported_and_stripped(kind: bytes, name: bytes, block: bytes) -> None:
    item = text_chunk(b"Raw profile type " + name, profile(block, name), kind)
    photo = photo_with(item)
    assert "GPS" in photo.links_to_owner
    assert texts(stripped(photo, imaging.StripOptions())) == [item], "kept unless asked"
    again = stripped(photo, GPS)
    assert "GPS" not in again.links_to_owner
    assert len(texts(again)) == 1
    if PACKET in block:
        after = PACKET.replace(b'exif:GPSLatitude="48,12N"', b" " * 25)
        assert texts(again) == [
            text_chunk(b"Raw profile type " + name, profile(block.replace(PACKET, after), name), kind)
        ]


def test_keywords_of_profiles_may_be_spelled_in_any_case() -> None:
    photo = photo_with(text_chunk(b"RAW PROFILE TYPE XMP", profile(PACKET)))
    assert photo.links_to_owner == ("GPS",)
    assert stripped(photo, GPS).links_to_owner == ()


def test_iptc_in_a_profile_is_reported() -> None:
    photo = photo_with(text_chunk(b"Raw profile type iptc", profile(IPTC, b"iptc")))
    assert photo.links_to_owner == ("place",)
    assert texts(stripped(photo, GPS)) == texts(photo), "as in a JPEG, where the name of a place stays too"


@pytest.mark.parametrize(
    ("name", "block", "copy"),
    [
        (b"8bim", b"8BIM" + jpeg(scene(40, 50)), "Photoshop thumbnail in a text chunk"),
        (b"APP1", exif_block(thumbnail=jpeg(scene(40, 50))), "EXIF thumbnail in a text chunk"),
        (b"exif", exif_block(thumbnail=b"not a JPEG"), "EXIF thumbnail in a text chunk"),
    ],
)
def test_pictures_in_profiles_are_reported_and_stripped(name: bytes, block: bytes, copy: str) -> None:
    photo = photo_with(text_chunk(b"Raw profile type " + name, profile(block, name)))
    assert photo.unprotected_copies == (copy,)
    assert texts(stripped(photo, COPIES)) == []


def test_copies_named_by_xmp_are_blanked() -> None:
    packet = b'<r dc:title="kept"><xmp:Thumbnails><xmpGImg:image>/9j/</xmpGImg:image></xmp:Thumbnails></r>'
    photo = photo_with(text_chunk(b"Raw profile type xmp", profile(packet)))
    assert photo.unprotected_copies == ("XMP thumbnail",)
    again = stripped(photo, COPIES)
    assert again.unprotected_copies == ()
    assert len(texts(again)) == 1


@pytest.mark.parametrize(
    "value",
    [
        profile(PACKET).replace(b"3c", b"3-", 1),
        profile(PACKET)[:-2],
        b"xmp 46 " + PACKET.hex().encode(),
        profile(PACKET).replace(b"\nxmp\n", b"\nxmp\n\n\n"),
        "é".encode("latin-1"),
    ],
)
def test_a_profile_that_cannot_be_read_is_reported_and_stripped(value: bytes) -> None:
    item = text_chunk(b"Raw profile type xmp", value, b"tEXt")
    photo = photo_with(item)
    assert photo.unprotected_copies == ("metadata in a text chunk that cannot be read",)
    assert texts(stripped(photo, imaging.StripOptions())) == [item]
    assert texts(stripped(photo, GPS)) == texts(stripped(photo, COPIES)) == []


def test_a_colour_profile_in_text_says_nothing_and_stays() -> None:
    photo = photo_with(text_chunk(b"Raw profile type icc", profile(ICC + b"\x1c\x02\x50", b"icc")))
    assert photo.links_to_owner == ()
    assert texts(stripped(photo, imaging.StripOptions(gps=True, copies=True))) == texts(photo)


def test_single_exif_values_in_text() -> None:
    kept = text_chunk(b"exif:DateTime", b"2024:01:01 00:00:00", b"tEXt")
    photo = photo_with(text_chunk(b"exif:GPSLatitude", b"48/1, 12/1, 34/1", b"tEXt"), kept)
    assert photo.links_to_owner == ("GPS",)
    assert texts(stripped(photo, GPS)) == [kept]
