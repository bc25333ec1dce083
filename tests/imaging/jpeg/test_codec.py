from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_samples import (
    ICC,
    exif_block,
    exif_segment,
    jpeg,
    metadata,
    psnr,
    scene,
    with_segments,
    xmp_segment,
)
from jpeg_spellings import Factors, encode
from PIL import Image

from hashshield import imaging
from hashshield.imaging.jpeg import markers, sampling
from hashshield.imaging.jpeg.markers import segment, walk


def change(pixels: np.ndarray[Any, np.dtype[np.uint8]], seed: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth change of up to 8 levels, as a protection is."""
    rng = np.random.default_rng(seed)
    height, width, channels = pixels.shape
    coarse = rng.uniform(-8, 8, (5, 7, channels)).astype(np.float32)
    layers = [np.asarray(Image.fromarray(coarse[..., c]).resize((width, height))) for c in range(channels)]
    return np.clip(pixels + np.stack(layers, axis=2).round(), 0, 255).astype(np.uint8)


options = st.fixed_dictionaries(
    {
        "quality": st.sampled_from([60, 85, 95]),
        "subsampling": st.integers(0, 2),
        "progressive": st.booleans(),
        "optimize": st.booleans(),
        "restart_marker_blocks": st.sampled_from([0, 3, 64]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    options=options,
    height=st.integers(32, 90),
    width=st.integers(32, 90),
    channels=st.sampled_from([1, 3]),
    orientation=st.integers(1, 8),
    icc=st.booleans(),
    order=st.sampled_from(["little", "big"]),
    seed=st.integers(0, 5),
)
def test_round_trip(
    options: dict[str, Any],
    height: int,
    width: int,
    channels: int,
    orientation: int,
    icc: bool,
    order: str,
    seed: int,
) -> None:
    data = jpeg(scene(height, width, channels, seed), icc_profile=ICC if icc else None, comment=b"hello", **options)
    data = with_segments(data, exif_segment(exif_block(orientation=orientation, order=order)), xmp_segment(b"<x/>"))
    photo = imaging.read(data, name="photo.jpg")
    assert photo.orientation == orientation
    assert photo.pixels.shape == (height, width, channels)
    assert np.array_equal(photo.pixels.squeeze(), np.asarray(Image.open(io.BytesIO(data))))

    same = imaging.write(photo, photo.pixels)
    again = imaging.read(same, name="photo.jpg")
    assert psnr(photo.pixels, again.pixels) > 52
    assert metadata(same) == metadata(data)
    assert again.orientation == orientation
    for what in ("colour", "tables", "restart", "progressive"):
        assert getattr(again.encoding.header, what) == getattr(photo.encoding.header, what), what
    assert again.encoding.header.factors[1:] == photo.encoding.header.factors[1:]

    wanted = change(photo.pixels)
    got = imaging.read(imaging.write(photo, wanted), name="photo.jpg").pixels
    assert psnr(wanted, got) > psnr(wanted, photo.pixels) or psnr(wanted, got) > 36


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(96, 128), (97, 131), (33, 47)])
def test_unchanged_pixels_come_back(subsampling: int, progressive: bool, size: tuple[int, int]) -> None:
    data = jpeg(scene(*size), subsampling=subsampling, progressive=progressive)
    photo = imaging.read(data, name="photo.jpg")
    written = imaging.write(photo, photo.pixels)
    assert psnr(photo.pixels, imaging.read(written, name="photo.jpg").pixels) > 65
    assert len(written) < 1.01 * len(data)


@settings(max_examples=40, deadline=None)
@given(
    options=options,
    height=st.integers(32, 90),
    width=st.integers(32, 90),
    channels=st.sampled_from([1, 3]),
    orientation=st.sampled_from([1, 6]),
    seed=st.integers(0, 5),
)
def test_a_preview_is_what_a_written_file_decodes_to(
    options: dict[str, Any], height: int, width: int, channels: int, orientation: int, seed: int
) -> None:
    pixels = scene(height, width, channels, seed)
    block = exif_block(orientation=orientation, thumbnail=jpeg(scene(30, 40)))
    photo = imaging.read(with_segments(jpeg(pixels, **options), exif_segment(block)), name="x")
    preview = imaging.previewer(photo)
    for each in (seed, seed + 1):
        wanted = change(photo.pixels, each)
        assert np.array_equal(preview(wanted), imaging.read(imaging.write(photo, wanted), name="x").pixels)


def test_change_lands_nearer_than_through_rgb() -> None:
    """Adding to the source's own samples must not do worse than an ordinary save with the same tables."""
    for seed in range(4):
        data = jpeg(scene(120, 160, seed=seed), subsampling=2)
        photo = imaging.read(data, name="photo.jpg")
        wanted = change(photo.pixels, seed)
        got = imaging.read(imaging.write(photo, wanted), name="photo.jpg").pixels
        ordinary = np.asarray(Image.open(io.BytesIO(jpeg(wanted, subsampling=2))))
        assert psnr(wanted, got) > psnr(wanted, ordinary) - 0.05


def test_rgb_coded_stays_rgb_coded() -> None:
    data = jpeg(scene(50, 70), keep_rgb=True, subsampling=0)
    photo = imaging.read(data, name="photo.jpg")
    assert photo.encoding.header.colour == "rgb"
    written = imaging.write(photo, photo.pixels)
    assert metadata(written) == metadata(data)
    assert psnr(photo.pixels, np.asarray(Image.open(io.BytesIO(written)))) > 60


def test_rgb_coded_by_component_names_alone() -> None:
    coded = jpeg(scene(50, 70), keep_rgb=True, subsampling=0)
    segments, _ = walk(coded, name="x")
    data = markers.join(s for s in segments if not markers.is_metadata(s.marker))
    photo = imaging.read(data, name="photo.jpg")
    assert photo.encoding.header.colour == "rgb"
    assert psnr(photo.pixels, imaging.read(imaging.write(photo, photo.pixels), name="x").pixels) > 60


@pytest.mark.parametrize("factors", [(1, 2), (4, 1), (1, 4)])
def test_samplings_pillow_cannot_write_are_kept(factors: tuple[int, int]) -> None:
    """An MCU of 4:4:0 holds the blocks of one of 4:2:2: renamed, a file of the one is a file of the other."""
    twin = {(1, 2): 1, (4, 1): 2, (1, 4): 2}[factors]
    data = _renamed(jpeg(scene(128, 128), subsampling=twin), factors)
    photo = imaging.read(data, name="photo.jpg")
    assert photo.encoding.header.factors == (factors, (1, 1), (1, 1))
    written = imaging.write(photo, photo.pixels)
    again = imaging.read(written, name="photo.jpg")
    assert again.encoding.header.factors == photo.encoding.header.factors
    assert psnr(photo.pixels, again.pixels) > 45
    assert len(written) < 1.05 * len(data)
    wanted = change(photo.pixels)
    again = imaging.read(imaging.write(photo, wanted), name="x")
    assert psnr(wanted, again.pixels) > 34
    assert np.array_equal(imaging.previewer(photo)(wanted), again.pixels)


def test_odd_sampling_of_odd_sizes() -> None:
    data = _renamed(jpeg(scene(128, 128), subsampling=1), (1, 2), size=(125, 123))
    photo = imaging.read(data, name="photo.jpg")
    assert photo.pixels.shape == (123, 125, 3)
    assert psnr(photo.pixels, imaging.read(imaging.write(photo, photo.pixels), name="x").pixels) > 45


def test_layouts_in_lowest_terms() -> None:
    def chosen(*factors: tuple[int, int]) -> tuple[tuple[tuple[int, int], ...], tuple[int, int] | None]:
        layout = sampling.choose_layout(factors, 90, 70)
        return layout.factors, layout.disguise

    assert chosen((2, 1), (2, 1), (2, 1)) == (((1, 1),) * 3, (1, 1))
    assert chosen((2, 2), (2, 1), (2, 1)) == (((1, 2), (1, 1), (1, 1)), (2, 1))
    assert chosen((4, 2), (1, 1), (1, 1)) == (((4, 2), (1, 1), (1, 1)), None)
    assert chosen((2, 1), (1, 1), (2, 1)) == (((2, 1), (1, 1), (2, 1)), None)
    assert chosen((3, 2)) == (((1, 1),), (1, 1))
    assert sampling.choose_layout(((1, 4), (1, 1), (1, 1)), 40, 20_000).disguise is None


@pytest.mark.parametrize("mode", ["sequential", "scans", "progressive", "progressive by component"])
@pytest.mark.parametrize("luma", [(2, 1), (2, 2), (4, 1), (4, 2), (1, 2)])
def test_hidden_samples_come_back(luma: tuple[int, int], mode: str) -> None:
    """A block of chroma at the edge goes past the last block of luma, and past what can be seen."""
    for shown in ((65, 97), (75, 107), (88, 120)):
        data = encode(scene(96, 128, seed=7), (luma, (1, 1), (1, 1)), mode=mode, displayed=shown)
        photo = imaging.read(data, name="x")
        assert photo.pixels.shape[:2] == shown
        again = imaging.read(imaging.write(photo, photo.pixels), name="x")
        assert psnr(photo.pixels, again.pixels) > 60


def test_component_names_stay() -> None:
    data = jpeg(scene(50, 70)).replace(b"\x01\x22\x00\x02\x11\x01\x03", b"\x05\x22\x00\x02\x11\x01\x99")
    data = data.replace(b"\x03\x01\x00\x02\x11\x03\x11", b"\x03\x05\x00\x02\x11\x99\x11")
    photo = imaging.read(data, name="x")
    assert photo.encoding.header.ids == (5, 2, 0x99)
    again = imaging.read(imaging.write(photo, photo.pixels), name="x")
    assert again.encoding.header.ids == (5, 2, 0x99)
    assert psnr(photo.pixels, again.pixels) > 60


def test_separate_scans_are_read() -> None:
    photo = imaging.read(jpeg(scene(50, 70), progressive=True), name="x")
    assert photo.encoding.header.scans > 1


@pytest.mark.parametrize("mode", ["sequential", "progressive"])
@pytest.mark.parametrize("factors", [((1, 1),) * 3, ((2, 2), (1, 1), (1, 1)), ((1, 1),)])
def test_noise_at_the_finest_tables_is_written(mode: str, factors: Factors, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow's optimising encoder runs out of buffer here, and libjpeg complains of that on standard error."""
    noise = np.random.default_rng(0).integers(0, 256, (176, 190, 1 if len(factors) == 1 else 3), dtype=np.uint8)
    colour = "ycc" if len(factors) == 3 else "grey"
    photo = imaging.read(encode(noise, factors, colour=colour, mode=mode, steps=(1, 1)), name="noise.jpg")
    again = imaging.read(imaging.write(photo, photo.pixels), name="noise.jpg")
    assert psnr(photo.pixels, again.pixels) > 45
    assert again.encoding.header.progressive == (mode == "progressive")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("progressive", [False, True])
def test_a_photo_may_become_many_times_larger(progressive: bool, capfd: pytest.CaptureFixture[str]) -> None:
    flat = np.full((200, 210, 3), 128, np.uint8)
    data = jpeg(flat, qtables=[[1] * 64], subsampling=0, progressive=progressive)
    photo = imaging.read(data, name="flat.jpg")
    noise = np.random.default_rng(0).integers(-100, 101, flat.shape)
    wanted = (flat + noise).astype(np.uint8)
    written = imaging.write(photo, wanted)
    assert len(written) > 30 * len(data)
    again = imaging.read(written, name="flat.jpg")
    assert psnr(wanted, again.pixels) > 40
    assert again.encoding.header.progressive == progressive
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["sequential", "progressive"])
@pytest.mark.parametrize("factors", [((1, 1),) * 3, ((2, 2), (1, 1), (1, 1)), ((4, 2), (1, 1), (1, 1)), ((1, 1),)])
def test_steps_above_255_are_kept_without_a_word(
    mode: str, factors: Factors, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a sequential file libjpeg complains of them, on standard error and naming no file."""
    colour = "ycc" if len(factors) == 3 else "grey"
    pixels = scene(88, 92, 1 if len(factors) == 1 else 3)
    photo = imaging.read(encode(pixels, factors, colour=colour, mode=mode, steps=(12, 400)), name="x.jpg")
    wanted = change(photo.pixels)
    written = imaging.write(photo, wanted)
    again = imaging.read(written, name="x.jpg")
    assert again.encoding.header.tables == photo.encoding.header.tables
    assert np.array_equal(imaging.previewer(photo)(wanted), again.pixels)
    assert psnr(imaging.read(imaging.write(photo, photo.pixels), name="x").pixels, photo.pixels) > 50
    assert capfd.readouterr().err == ""


def test_fill_and_stray_bytes_are_tolerated() -> None:
    plain = jpeg(scene())
    second = 2 + 2 + int.from_bytes(plain[4:6], "big")
    loose = plain[:second] + b"\xff\xff\xff" + plain[second:]
    assert np.array_equal(imaging.read(loose, name="x").pixels, imaging.read(plain, name="x").pixels)
    assert metadata(imaging.write(imaging.read(loose, name="x"), scene() ^ 0)) == metadata(plain)


def test_metadata_between_scans_stays_behind_the_picture() -> None:
    segments, _ = walk(jpeg(scene(), progressive=True), name="x")
    scans = [i for i, s in enumerate(segments) if s.marker == markers.SOS]
    # An Adobe marker that comes after the first scan must not come to rule the colours.
    segments.insert(scans[1], segment(0xEE, b"Adobe\0d\0\0\0\0\0"))
    segments = [s for s in segments if s.marker != 0xE0]
    data = markers.join(segments)
    photo = imaging.read(data, name="x")
    again = imaging.read(imaging.write(photo, photo.pixels), name="x")
    assert photo.encoding.header.colour == again.encoding.header.colour == "ycc"
    assert psnr(photo.pixels, again.pixels) > 60


def test_trailing_data_keeps_its_place() -> None:
    tail = b"\0\0MARK" + bytes(range(256))
    data = jpeg(scene(), optimize=False) + tail
    photo = imaging.read(data, name="x")
    assert photo.unprotected_copies == (f"trailing data ({len(tail)} bytes)",)
    written = imaging.write(photo, photo.pixels)
    assert written.endswith(tail)
    assert len(written) == len(data)
    assert psnr(photo.pixels, imaging.read(written, name="x").pixels) > 60


def test_whole_segments_are_split_apart_and_joined_again() -> None:
    data = jpeg(scene(), comment=b"note", icc_profile=ICC, progressive=True)
    segments, end = walk(data, name="x")
    assert markers.join(segments) == data
    assert end == len(data)


def _renamed(data: bytes, factors: tuple[int, int], size: tuple[int, int] | None = None) -> bytes:
    segments, _ = walk(data, name="x")
    out = []
    for item in segments:
        if item.marker in markers.SOF:
            body = bytearray(item.payload)
            body[7] = factors[0] << 4 | factors[1]
            if size:
                body[1:5] = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
            item = segment(item.marker, bytes(body))
        out.append(item)
    return markers.join(out)
