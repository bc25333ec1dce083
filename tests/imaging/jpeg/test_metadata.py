"""Pointers of maker notes and of MPF to pictures behind the photo lead there after the photo was written anew."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from imaging_samples import exif_segment, jpeg, metadata, scene, with_segments

from hashshield import imaging

PREVIEW = jpeg(scene(40, 60, seed=4))
JUNK = b"\0\1\2\3" * 8


def entry(order: str, tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack(f"{order}HHII", tag, kind, count, value)


def directory(order: str, *entries: bytes) -> bytes:
    return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def note(maker: str, order: str, at: int, target: int) -> bytes:
    """A maker note at `at` in the EXIF block whose preview begins at `target`, counted from the block's start."""
    if maker == "sony":
        return b"SONY DSC \0\0\0" + directory(order, entry(order, 0x2001, 7, 32 + len(PREVIEW), target - 32))
    if maker == "canon":
        numbers = struct.pack(f"{order}6I", 24, 2, len(PREVIEW), 60, 40, target)
        return directory(order, entry(order, 0x00B6, 4, 6, at + 18)) + numbers
    if maker == "nikon":
        inner = at + 10
        sub = directory(">", entry(">", 0x0201, 4, 1, target - inner), entry(">", 0x0202, 4, 1, len(PREVIEW)))
        return b"Nikon\0\2\x10\0\0MM\0*\0\0\0\x08" + directory(">", entry(">", 0x0011, 4, 1, 26)) + sub
    assert maker == "olympus"
    return b"OLYMPUS\0II\3\0" + directory("<", entry("<", 0x0101, 4, 1, target - at))


def photo_with_preview(maker: str, order: str, *, fill: bytes = b"") -> bytes:
    """A photo with `fill` before its EXIF segment, and the preview that its maker note points at behind it."""

    def whole(target: int) -> bytes:
        at = 8 + 18 + 18
        held = note(maker, order, at, target)
        block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
        block += directory(order, entry(order, 0x8769, 4, 1, 26))
        block += directory(order, entry(order, 0x927C, 7, len(held), at)) + held
        coded = with_segments(jpeg(scene(200, 240), quality=96), exif_segment(block))
        start = coded.index(b"\xff\xe1")
        return coded[:start] + fill + coded[start:]

    draft = whole(1 << 20)
    return whole(len(draft) + len(JUNK) - base(draft)) + JUNK + PREVIEW


def base(data: bytes) -> int:
    return data.index(b"Exif\0\0") + 6


def followed(data: bytes, maker: str, order: str) -> bytes:
    """What a reader of this maker's notes takes for the preview."""
    at = base(data) + 44
    number = {"sony": 12 + 2 + 8, "canon": 18 + 20, "nikon": 10 + 26 + 2 + 8, "olympus": 12 + 2 + 8}[maker]
    origin = {"sony": base(data) + 32, "canon": base(data), "nikon": at + 10, "olympus": at}[maker]
    kind = {"nikon": ">", "olympus": "<"}.get(maker, order) + "I"
    return data[origin + struct.unpack(kind, data[at + number : at + number + 4])[0] :]


@pytest.mark.parametrize("maker", ["sony", "canon", "nikon", "olympus"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fill", [b"", b"\xff" * 9])
@pytest.mark.parametrize("grows", [False, True])
def test_maker_notes_lead_to_their_preview(maker: str, order: str, fill: bytes, grows: bool) -> None:
    data = photo_with_preview(maker, order, fill=fill)
    assert followed(data, maker, order) == PREVIEW
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == ("image after the end of the photo",)
    noise = np.random.default_rng(0).integers(-6, 7, photo.pixels.shape)
    wanted = np.clip(photo.pixels + noise, 0, 255).astype(np.uint8) if grows else photo.pixels
    written = imaging.write(photo, wanted)
    assert (len(written) > len(data)) == grows
    assert followed(written, maker, order) == PREVIEW
    before, after = metadata(data), metadata(written)
    assert [len(each) for each in before] == [len(each) for each in after]
    differ = [i for old, new in zip(before, after, strict=True) for i in range(len(old)) if old[i] != new[i]]
    assert len(differ) <= 4
    assert bool(differ) == (grows or bool(fill))


def test_numbers_that_lead_to_no_picture_stay() -> None:
    data = photo_with_preview("canon", "<")[: -len(PREVIEW)] + b"no picture" * 20
    photo = imaging.read(data, name="x")
    noise = np.random.default_rng(0).integers(-6, 7, photo.pixels.shape)
    written = imaging.write(photo, np.clip(photo.pixels + noise, 0, 255).astype(np.uint8))
    assert len(written) > len(data)
    assert metadata(written) == metadata(data)


def test_a_copy_stripped_from_behind_the_photo_leaves_the_notes_alone() -> None:
    data = photo_with_preview("sony", "<")
    photo = imaging.read(data, name="x")
    written = imaging.write(photo, photo.pixels, strip=imaging.StripOptions(copies=True))
    assert metadata(written) == metadata(data)
    assert PREVIEW not in written
