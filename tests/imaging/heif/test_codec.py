from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import PIL
import pillow_heif
import pytest
from imaging_samples import ICC, exif_block, psnr, scene
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hashshield import imaging
from hashshield.errors import BrokenPhotoError, PhotoError, UnsupportedError
from hashshield.imaging.heif.boxes import build_still, parse_still
from hashshield.imaging.heif.items import HeifItem, ItemProperty, ItemReference, StillImage

XMPS = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:GDepth="g" GDepth:Data="AAAA"/></x:xmpmeta>'
FORMATS = ("heic", "avif")


def image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels.squeeze() if pixels.shape[2] == 1 else pixels)


def heif(container: str, pixels: NDArray[np.uint8], **options: Any) -> bytes:
    out = io.BytesIO()
    if container == "avif":
        image_of(pixels).save(out, "AVIF", **{"quality": 92, **options})
    else:
        pillow_heif.from_pillow(image_of(pixels)).save(out, **{"quality": 80, **options})
    return out.getvalue()


def read(data: bytes) -> imaging.Photo:
    return imaging.read(data, name="photo")


def changed(data: bytes, **changes: Any) -> bytes:
    return build_still(replace(parse_still(data, name="x"), **changes))


def with_properties(data: bytes, *added: ItemProperty) -> bytes:
    still = parse_still(data, name="x")
    primary = still.items[still.primary]
    kept = tuple(p for p in primary.properties if p.kind not in (b"irot", b"imir"))
    return changed(data, items={**still.items, still.primary: replace(primary, properties=(*kept, *added))})


def with_image(data: bytes, kind: bytes, *added: ItemProperty, number: int = 77) -> bytes:
    """Give a file a second picture that refers to the first, or to nothing if `kind` is empty."""
    still = parse_still(data, name="x")
    primary = still.items[still.primary]
    entry = primary.entry[:12] + number.to_bytes(2, "big") + primary.entry[14:]
    item = replace(primary, number=number, entry=entry, properties=(*primary.properties, *added))
    references = (*still.references, ItemReference(kind, number, (still.primary,))) if kind else still.references
    return changed(data, items={**still.items, number: item}, references=references)


def others(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(i.kind, i.data) for i in parse_still(data, name="x").items.values() if i.kind not in (b"hvc1", b"av01")]


@pytest.mark.parametrize("container", FORMATS)
@pytest.mark.parametrize(("height", "width", "channels"), [(96, 128, 3), (75, 91, 3), (64, 80, 1), (80, 64, 4)])
def test_round_trip(container: str, height: int, width: int, channels: int) -> None:
    pixels = scene(height, width, channels)
    data = heif(container, pixels, exif=exif_block(), xmp=XMPS, icc_profile=ICC)
    photo = read(data)
    assert (photo.container, photo.lossless, photo.orientation) == (container, False, 1)
    # Pillow before 13 decodes a grey AVIF as colour.
    grey = channels == 1 and not (container == "avif" and int(PIL.__version__.split(".")[0]) < 13)
    assert photo.pixels.shape == (height, width, 1 if grey else 3)
    assert psnr(photo.pixels, pixels[..., : photo.pixels.shape[2]]) > 33
    wanted = np.clip(photo.pixels.astype(int) + 6, 0, 255).astype(np.uint8)
    written = imaging.write(photo, wanted)
    again = read(written)
    assert psnr(again.pixels, wanted) > 36
    assert others(written) == others(data)
    before, after = (p.encoding.still for p in (photo, again))  # type: ignore[attr-defined]
    assert before.items.keys() == after.items.keys()
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, again.alpha)
    profiles = [
        [p for i in s.items.values() for p in i.properties if p.payload[:4] == b"prof"] for s in (before, after)
    ]
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize("sampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("container", FORMATS)
def test_sampling_stays(container: str, sampling: str) -> None:
    photo = read(heif(container, scene(), subsampling=sampling))
    again = read(imaging.write(photo, photo.pixels))
    assert photo.encoding.sampling == again.encoding.sampling == sampling  # type: ignore[attr-defined]


def test_library_sees_what_we_see() -> None:
    data = heif("heic", scene())
    written = imaging.write(read(data), scene(seed=5))
    assert np.array_equal(np.asarray(pillow_heif.open_heif(written)), read(written).pixels)
    assert psnr(np.asarray(pillow_heif.open_heif(written)), scene(seed=5)) > 36


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("container", FORMATS)
def test_turns_are_the_decoders(container: str, angle: int, axis: int | None) -> None:
    turns = [ItemProperty(b"irot", bytes((angle,)), True)] if angle else []
    turns += [ItemProperty(b"imir", bytes((axis,)), True)] if axis is not None else []
    data = with_properties(heif(container, scene(64, 96)), *turns)
    photo = read(data)
    assert photo.pixels.shape == (64, 96, 3)
    # Decoders of their own, which turn: one with a library's arithmetic, one with EXIF's.
    if container == "heic":
        shown = np.asarray(pillow_heif.open_heif(data))
    else:
        shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(imaging.to_display_orientation(photo.pixels, photo.orientation), shown)
    again = read(imaging.write(photo, photo.pixels))
    assert again.orientation == photo.orientation
    assert psnr(again.pixels, photo.pixels) > 38


def test_exif_orientation_is_not_looked_at() -> None:
    data = heif("heic", scene(64, 96), exif=exif_block(orientation=6))
    turned = with_properties(data)
    assert read(turned).orientation == 1
    assert others(imaging.write(read(turned), read(turned).pixels)) == others(turned)


@pytest.mark.parametrize("container", FORMATS)
def test_grid_stays_a_grid(container: str) -> None:
    pixels = scene(150, 200)
    tiles = [
        np.pad(pixels, ((0, 42), (0, 56), (0, 0)), mode="edge")[y : y + 64, x : x + 64]
        for y in (0, 64, 128)
        for x in (0, 64, 128, 192)
    ]
    stills = [parse_still(heif(container, np.ascontiguousarray(tile)), name="tile") for tile in tiles]
    items: dict[int, HeifItem] = {}
    for number, still in enumerate(stills, 1):
        item = still.items[still.primary]
        entry = item.entry[:12] + number.to_bytes(2, "big") + item.entry[14:]
        items[number] = replace(item, number=number, entry=entry)
    entry = items[1].entry[:12] + b"\0\x63\0\0grid" + items[1].entry[20:]
    size = b"\0\0\0\0" + (200).to_bytes(4, "big") + (150).to_bytes(4, "big")
    layout = b"\0\0\x02\x03" + (200).to_bytes(2, "big") + (150).to_bytes(2, "big")
    items[99] = HeifItem(99, b"grid", b"", entry, layout, True, (ItemProperty(b"ispe", size, False),))
    links = (ItemReference(b"dimg", 99, tuple(range(1, 13))),)
    data = build_still(replace(stills[0], primary=99, items=items, references=links))
    photo = read(data)
    assert photo.pixels.shape == pixels.shape
    assert psnr(photo.pixels, pixels) > 37
    again = read(imaging.write(photo, scene(150, 200, seed=3)))
    assert psnr(again.pixels, scene(150, 200, seed=3)) > 37
    assert again.encoding.grid == photo.encoding.grid is not None  # type: ignore[attr-defined]
    assert photo.unprotected_copies == ()


def test_copies_are_told_kept_and_stripped() -> None:
    gain = ItemProperty(b"auxC", b"\0\0\0\0urn:com:apple:photo:2020:aux:hdrgainmap\0", True)
    data = with_image(heif("heic", scene(), xmp=XMPS), b"auxl", gain)
    data = with_image(data, b"", number=78) + b"\0\0\0\x10mpvdsomedata" + b"more"
    photo = read(data)
    assert photo.unprotected_copies == (
        "gain map (128x96)",
        "second image (128x96)",
        "data in a box of the kind mpvd (16 bytes)",
        "trailing data (4 bytes)",
        "depth map",
    )
    kept = imaging.write(photo, scene(seed=4))
    assert read(kept).unprotected_copies == photo.unprotected_copies
    stills: list[StillImage] = [parse_still(each, name="x") for each in (data, kept)]
    assert stills[0].items[77] == stills[1].items[77]
    bare = read(imaging.write(photo, scene(seed=4), strip=imaging.StripOptions(copies=True)))
    assert bare.unprotected_copies == ()
    assert psnr(bare.pixels, scene(seed=4)) > 36


@pytest.mark.parametrize("container", FORMATS)
def test_thumbnails_are_made_anew(container: str) -> None:
    photo = read(with_image(heif(container, scene()), b"thmb"))
    assert photo.unprotected_copies == ()
    still = parse_still(imaging.write(photo, scene(seed=9)), name="x")
    alone = build_still(replace(still, primary=77, references=()))
    assert psnr(read(alone).pixels, scene(seed=9)) > 37


def test_metadata_goes_when_asked() -> None:
    data = with_properties(heif("heic", scene(), exif=exif_block(), xmp=XMPS), ItemProperty(b"irot", b"\x01", True))
    written = imaging.write(read(data), read(data).pixels, strip=imaging.StripOptions(metadata=True))
    assert others(written) == []
    assert read(written).orientation == 8


@pytest.mark.parametrize(("depth", "options"), [(10, {}), (12, {"SAVE_HDR_TO_12_BIT": True})])
def test_more_bits_are_refused(depth: int, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in options.items():
        monkeypatch.setattr(pillow_heif.options, key, value)
    deep = (scene().astype(np.uint16) << 8).tobytes()
    out = io.BytesIO()
    pillow_heif.encode("RGB;16", (128, 96), deep, out)
    with pytest.raises(UnsupportedError, match=f"{depth} bits per sample"):
        read(out.getvalue())


def test_sequences_are_refused() -> None:
    out = io.BytesIO()
    frames = [Image.fromarray(scene(seed=s)) for s in (1, 2)]
    frames[0].save(out, "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="sequence is not supported"):
        read(out.getvalue())


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heif("heic", scene())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedError, match="pipx inject hashshield pillow-heif"):
        read(data)


@pytest.mark.parametrize("container", FORMATS)
def test_damage_is_a_photo_error(container: str) -> None:
    data = heif(container, scene(40, 48), exif=exif_block())
    rng = np.random.default_rng(7)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 900), rng.integers(1, 4)):
            broken[at] ^= 1 << int(rng.integers(8))
        try:
            photo = read(bytes(broken))
        except PhotoError:
            continue
        imaging.write(photo, photo.pixels)
    for end in rng.integers(12, len(data) - 1, 15):
        with pytest.raises(BrokenPhotoError):
            read(data[:end])
