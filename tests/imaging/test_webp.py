from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from imaging_samples import ICC, exif_block, psnr, scene
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.imaging.webp import chunks, estimate_quality


def webp(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", **options)
    return out.getvalue()


def others(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(item.kind, item.payload) for item in chunks(data, name="x")[0] if item.kind not in (b"VP8 ", b"VP8L")]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("tagged", [False, True])
def test_lossless_stays_exact(channels: int, tagged: bool) -> None:
    pixels = scene(45, 61, channels)
    if channels == 4:
        pixels[:9, :9, 3] = 0
    extra = {"icc_profile": ICC, "exif": exif_block(orientation=5), "xmp": b"<x/>"} if tagged else {}
    data = webp(pixels, lossless=True, exact=True, **extra)
    photo = imaging.read(data, name="photo.webp")
    assert photo.lossless
    assert photo.orientation == (5 if tagged else 1)
    assert np.array_equal(photo.pixels, pixels[..., :3])
    wanted = photo.pixels ^ 1
    written = imaging.write(photo, wanted)
    again = imaging.read(written, name="photo.webp")
    if photo.alpha is not None:
        wanted[photo.alpha == 0] = photo.pixels[photo.alpha == 0]
        assert again.alpha is not None
        assert np.array_equal(again.alpha, photo.alpha)
    assert np.array_equal(again.pixels, wanted)
    assert others(written) == others(data)


@pytest.mark.parametrize("quality", [50, 80, 95])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossy_keeps_quality_chunks_and_alpha(quality: int, channels: int) -> None:
    data = webp(scene(120, 160, channels), quality=quality, exif=exif_block(orientation=3), icc_profile=ICC)
    photo = imaging.read(data, name="photo.webp")
    assert not photo.lossless
    assert photo.orientation == 3
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)))[..., :3], photo.pixels)
    written = imaging.write(photo, photo.pixels)
    again = imaging.read(written, name="photo.webp")
    assert psnr(photo.pixels, again.pixels) > 36
    assert others(written) == others(data)
    assert len(written) < 1.35 * len(data)


def test_quality_is_estimated_from_the_frame() -> None:
    settings = (30, 50, 75, 90, 100)
    estimates = []
    for quality in settings:
        frame = next(
            i.payload for i in chunks(webp(scene(200, 240), quality=quality), name="x")[0] if i.kind == b"VP8 "
        )
        estimates.append(estimate_quality(frame))
    # Segments get finer and coarser quantisers than the setting asks for; the finest is taken.
    assert all(setting - 1 <= estimate <= 100 for setting, estimate in zip(settings, estimates, strict=True))
    assert estimates == sorted(estimates)


@pytest.mark.parametrize("frame", [b"", bytes(10), b"\xff" * 40])
def test_quality_of_nonsense_is_a_number(frame: bytes) -> None:
    assert 0 <= estimate_quality(frame) <= 100


def test_trailing_data_is_kept_and_told() -> None:
    photo = imaging.read(webp(scene()) + b"more", name="x")
    assert photo.unprotected_copies == ("trailing data (4 bytes)",)
    assert imaging.write(photo, photo.pixels).endswith(b"more")
