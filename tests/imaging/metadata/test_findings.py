from __future__ import annotations

import io

import numpy as np
import piexif
import pytest
from imaging_samples import (
    exif_block,
    exif_segment,
    jpeg,
    metadata,
    png,
    psnr,
    scene,
    with_segments,
    xmp_segment,
)
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.imaging.jpeg.markers import segment, walk
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.exif import parse_exif
from hashshield.imaging.metadata.findings import thumbnail
from hashshield.imaging.metadata.thumbnails import find_jpegs, jpeg_size
from hashshield.imaging.png_chunks import chunk, chunks


def small(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def protect(photo: imaging.Photo) -> NDArray[np.uint8]:
    """Something a thumbnail shows: the left half darker."""
    pixels = photo.pixels.copy()
    pixels[:, : pixels.shape[1] // 2] //= 2
    return pixels


def shown_thumbnail(data: bytes) -> NDArray[np.uint8]:
    payload = next(s.payload for s in walk(data, name="x")[0] if s.payload.startswith(b"Exif\0\0"))
    block = parse_exif(payload[6:])
    assert block is not None
    spot = thumbnail(block)
    assert spot is not None
    return np.asarray(Image.open(io.BytesIO(block.data[spot.start : spot.end])).convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["little", "big"])
def test_exif_thumbnail_is_remade_in_place(channels: int, order: str) -> None:
    pixels = scene(240, 320, channels)
    old = jpeg(small(pixels.squeeze(), 80, 60).reshape(60, 80, channels), quality=75)
    data = with_segments(jpeg(pixels), exif_segment(exif_block(thumbnail=old, order=order)))
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ()
    wanted = protect(photo)
    written = imaging.write(photo, wanted)
    before, after = metadata(data), metadata(written)
    assert [len(s) for s in before] == [len(s) for s in after]
    assert before[0][: -len(old)] == after[0][: -len(old)]
    assert before[1:] == after[1:]
    expected = small(wanted.squeeze(), 80, 60)
    expected = np.dstack([expected] * 3) if channels == 1 else expected
    assert psnr(shown_thumbnail(written), expected) > 30
    assert imaging.read(written, name="x").unprotected_copies == ()


def test_letterboxed_and_turned_thumbnails_are_drawn_as_they_were() -> None:
    pixels = scene(200, 400)
    barred = np.zeros((60, 80, 3), np.uint8)
    barred[10:50] = small(pixels, 80, 40)
    turned = np.ascontiguousarray(np.rot90(small(pixels, 80, 40)))
    for old in (barred, turned):
        data = with_segments(jpeg(pixels), exif_segment(exif_block(thumbnail=jpeg(old))))
        photo = imaging.read(data, name="x")
        assert psnr(shown_thumbnail(imaging.write(photo, photo.pixels)), old) > 28


def test_thumbnail_too_small_for_any_picture_is_told_and_can_be_stripped() -> None:
    tiny = jpeg(scene(96, 128), quality=1)[:200]
    assert jpeg_size(tiny) == (128, 96)
    data = with_segments(jpeg(scene()), exif_segment(exif_block(thumbnail=tiny)))
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("EXIF thumbnail (128x96)",)
    assert metadata(imaging.write(photo, photo.pixels)) == metadata(data)
    stripped = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))
    assert tiny[:20] not in stripped
    assert [len(s) for s in metadata(stripped)] == [len(s) for s in metadata(data)]


def test_uncompressed_thumbnail_is_remade() -> None:
    """As in EXIF 2.1 cameras: IFD1 with one strip of RGB."""
    pixels = scene(120, 160)
    old = small(pixels, 40, 30)
    first = b"II*\0\x08\0\0\0" + b"\x01\0" + _entry(0x0112, 3, 1, 1) + (26).to_bytes(4, "little")
    tags = [(0x0100, 4, 1, 40), (0x0101, 4, 1, 30), (0x0103, 3, 1, 1), (0x0106, 3, 1, 2)]
    start = 26 + 2 + 12 * 6 + 4
    tags += [(0x0111, 4, 1, start), (0x0117, 4, 1, 3600)]
    block = first + b"\x06\0" + b"".join(_entry(*tag) for tag in tags) + bytes(4) + old.tobytes()
    data = with_segments(jpeg(pixels), exif_segment(block))
    photo = imaging.read(data, name="x")
    wanted = protect(photo)
    written = imaging.write(photo, wanted)
    held = next(s.payload for s in walk(written, name="x")[0] if s.payload.startswith(b"Exif\0\0"))
    shown = np.frombuffer(held[6 + start :], np.uint8).reshape(30, 40, 3)
    assert psnr(shown, small(wanted, 40, 30)) > 35


@pytest.mark.parametrize("marker", [0xED, 0xE0, 0xE1])
def test_previews_elsewhere_are_remade(marker: int) -> None:
    pixels = scene(240, 320)
    old = jpeg(small(pixels, 80, 60))
    head = {0xED: b"Photoshop 3.0\x008BIM\x04\x0c\0\0", 0xE0: b"JFXX\0\x10", 0xE1: b"Exif\0\0"}[marker]
    payload = head + (exif_block() if marker == 0xE1 else b"") + old + b"after"
    data = with_segments(jpeg(pixels), segment(marker, payload))
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ()
    wanted = protect(photo)
    again = metadata(imaging.write(photo, wanted))[0]
    assert len(again) == len(payload) + 4
    assert again.endswith(b"after")
    spot = next(find_jpegs(again, MetadataBudget("x")))
    assert psnr(np.asarray(Image.open(io.BytesIO(again[spot.start : spot.end]))), small(wanted, 80, 60)) > 25


def test_preview_of_something_else_is_told_and_left() -> None:
    other = jpeg(scene(60, 80, seed=9))
    data = with_segments(jpeg(scene(240, 320)), exif_segment(exif_block() + other))
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("image in EXIF (80x60)",)
    assert metadata(imaging.write(photo, photo.pixels)) == metadata(data)
    assert other[:40] not in imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))


def test_plain_jfif_thumbnail_is_remade() -> None:
    pixels = scene(120, 160)
    old = small(pixels, 16, 12)
    data = with_segments(jpeg(pixels), segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\x10\x0c" + old.tobytes()))
    photo = imaging.read(data, name="x")
    wanted = protect(photo)
    held = metadata(imaging.write(photo, wanted))[0][18:]
    assert psnr(np.frombuffer(held, np.uint8).reshape(12, 16, 3), small(wanted, 16, 12)) > 35


def test_png_thumbnail_is_remade() -> None:
    pixels = scene(240, 320)
    held, _ = chunks(png(pixels), name="x")
    held.insert(1, chunk(b"eXIf", exif_block(thumbnail=jpeg(small(pixels, 80, 60)))))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(item.data for item in held)
    photo = imaging.read(data, name="x")
    wanted = protect(photo)
    written, _ = chunks(imaging.write(photo, wanted), name="x")
    payload = next(item.payload for item in written if item.kind == b"eXIf")
    spot = next(find_jpegs(payload, MetadataBudget("x")))
    assert psnr(np.asarray(Image.open(io.BytesIO(payload[spot.start : spot.end]))), small(wanted, 80, 60)) > 25


def test_owner_links_in_exif() -> None:
    data = with_segments(jpeg(scene()), exif_segment(exif_block(gps=True)))
    assert imaging.read(data, name="x").links_to_owner == ("serial number", "GPS")


@pytest.mark.parametrize(
    ("camera", "captured", "told"),
    [
        ({271: b"ACME", 272: b"X1"}, {36867: b"2024:01:31 12:00:00"}, True),
        ({272: b"X1"}, {36868: b"2024:01:31 12:00:00"}, True),
        ({}, {36867: b"2024:01:31 12:00:00"}, False),
        ({271: b"ACME"}, {}, False),
        ({271: b"ACME"}, {36867: b"0000:00:00 00:00:00"}, False),
        ({271: b"    "}, {36867: b"2024:01:31 12:00:00"}, False),
    ],
)
def test_the_second_and_the_camera_are_a_link_together(
    camera: dict[int, bytes], captured: dict[int, bytes], told: bool
) -> None:
    block = piexif.dump({"0th": camera, "Exif": captured})[6:]
    photo = imaging.read(with_segments(jpeg(scene()), exif_segment(block)), name="x")
    assert photo.links_to_owner == (("capture time with camera",) if told else ())
    without = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(metadata=True))
    assert imaging.read(without, name="x").links_to_owner == ()


def test_gps_of_an_unsound_block_is_told_without_reading_it() -> None:
    block = bytearray(exif_block(gps=True))
    block[18:20] = b"\x63\0"
    photo = imaging.read(with_segments(jpeg(scene()), exif_segment(bytes(block))), name="x")
    assert "GPS" in photo.links_to_owner


@pytest.mark.parametrize(
    ("body", "link"),
    [
        (b'<r xmpMM:DocumentID="xmp.did:1"/>', "XMP DocumentID"),
        (b'<r exif:GPSLatitude="48,12N"/>', "GPS"),
        (b'<r drone-dji:GpsLatitude="1"/>', "GPS"),
        (b"<aux:SerialNumber>1</aux:SerialNumber>", "serial number"),
        (b"<dc:creator>me</dc:creator>", "owner name"),
        (b"<mwg-rs:Name>us</mwg-rs:Name>", "names of people"),
        (b'<r dcterms:provenance="self#jumbf=c2pa"/>', "C2PA manifest"),
        (b'<r tiff:Model="X1" exif:DateTimeOriginal="2024-01-31T12:00:00"/>', "capture time with camera"),
    ],
)
def test_owner_links_in_xmp(body: bytes, link: str) -> None:
    assert imaging.read(with_segments(jpeg(scene()), xmp_segment(body)), name="x").links_to_owner == (link,)


def test_owner_links_elsewhere() -> None:
    iptc = segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x07\x1c\x02\x50\0\2me\0")
    c2pa = segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x30jumb\0\0\0\x28jumdc2pa\0\x11\0\x10")
    photo = imaging.read(with_segments(jpeg(scene()), iptc, c2pa), name="x")
    assert photo.links_to_owner == ("owner name", "C2PA manifest")
    held, _ = chunks(png(scene()), name="x")
    held[1:1] = [chunk(b"caBX", b"c2pa"), chunk(b"tEXt", b"Author\0me")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(item.data for item in held)
    assert imaging.read(data, name="x").links_to_owner == ("C2PA manifest", "owner name")


@pytest.mark.parametrize(
    ("body", "copy"),
    [
        (b"<xmp:Thumbnails><xmpGImg:image>/9j/</xmpGImg:image></xmp:Thumbnails>", "XMP thumbnail"),
        (b'<r GDepth:Data="abc"/>', "depth map"),
        (b'<r GImage:Data="abc"/>', "unblurred image in XMP"),
    ],
)
def test_copies_in_xmp(body: bytes, copy: str) -> None:
    data = with_segments(jpeg(scene()), xmp_segment(body))
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == (copy,)
    stripped = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))
    assert imaging.read(stripped, name="x").unprotected_copies == ()
    assert [len(s) for s in metadata(stripped)] == [len(s) for s in metadata(data)]


def mpo(*, gain_map: bool = False, big: bool = False) -> tuple[bytes, bytes]:
    """A photo with an MPF index and a second image behind it; returns the file and the second image."""
    second = with_segments(jpeg(scene(60, 80, seed=3)), exif_segment(exif_block(gps=True)))
    entries = bytes(16) + bytes(4) + len(second).to_bytes(4, "little") + bytes(8)
    index = (
        b"MPF\0II*\0\x08\0\0\0\2\0"
        + _entry(0xB001, 4, 1, 2)
        + _entry(0xB002, 7, 32, 8 + 2 + 24 + 4)
        + bytes(4)
        + entries
    )
    pixels = scene(96, 128)
    options = {"optimize": not big, "qtables": [[2] * 64]}
    added = [segment(0xE2, index)]
    if gain_map:
        added.append(xmp_segment(b'<r hdrgm:Version="1.0" tiff:Make="x"/>'))
    draft = with_segments(jpeg(pixels, **options), *added)
    base = draft.index(b"MPF\0") + 4
    held = bytearray(index)
    held[42 + 4 : 42 + 8] = len(draft).to_bytes(4, "little")
    held[42 + 24 : 42 + 28] = (len(draft) - base).to_bytes(4, "little")
    added[0] = segment(0xE2, bytes(held))
    return with_segments(jpeg(pixels, **options), *added) + second, second


@pytest.mark.parametrize("grows", [False, True])
def test_second_image_stays_where_its_index_says(grows: bool) -> None:
    data, second = mpo(big=not grows)
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("MPO second image",)
    assert photo.links_to_owner == ("GPS in what follows the photo",)
    noise = np.random.default_rng(0).integers(-6, 7, photo.pixels.shape)
    wanted = np.clip(photo.pixels + noise, 0, 255).astype(np.uint8) if grows else photo.pixels
    written = imaging.write(photo, wanted)
    assert (len(written) > len(data)) == grows
    assert (metadata(written) == metadata(data)) == (not grows)
    with Image.open(io.BytesIO(written), formats=["JPEG", "MPO"]) as image:
        assert image.n_frames == 2
        image.seek(1)
        assert psnr(np.asarray(image), np.asarray(Image.open(io.BytesIO(second)))) == float("inf")


def test_stripping_copies_removes_what_follows_and_what_points_at_it() -> None:
    data, second = mpo(gain_map=True)
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("Ultra HDR gain map",)
    stripped = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))
    assert second[:50] not in stripped
    assert b"MPF\0" not in stripped
    assert b"hdrgm:Version" not in stripped
    assert b'tiff:Make="x"' in stripped
    again = imaging.read(stripped, name="x")
    assert again.unprotected_copies == ()
    assert again.links_to_owner == ()


@pytest.mark.parametrize("tail", [b"\0\0\0\x18ftypmp42" + bytes(40), b"xxMotionPhoto_Data" + bytes(40)])
def test_motion_photo_is_told(tail: bytes) -> None:
    body = b'<r GCamera:MicroVideo="1" GCamera:MicroVideoOffset="52"/>'
    data = with_segments(jpeg(scene()), xmp_segment(body)) + tail
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("motion photo video",)
    stripped = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))
    assert stripped.endswith(b"\xff\xd9")
    assert b"MicroVideo" not in stripped


def test_padding_behind_the_photo_is_no_copy() -> None:
    photo = imaging.read(jpeg(scene()) + bytes(100), name="x")
    assert photo.unprotected_copies == ()
    assert imaging.write(photo, photo.pixels).endswith(bytes(100))


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return (
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
    )
