"""A picture without colour stays without colour, whatever the channels of its file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.types import FileOptions, Outcome
from tiny_net import encoded, picture

Protect = Callable[..., list[Outcome]]


def heic(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=90)
    return out.getvalue()


GREY = np.repeat(picture(60, 80, seed=3, channels=1), 3, axis=2)
ALPHA = np.full((60, 80, 1), 255, np.uint8)
ALPHA[:10] = 0
HIDDEN = GREY.copy()
HIDDEN[:10] = (250, 10, 90)

FILES = {
    "rgb.png": (encoded(GREY), 0),
    "rgba.png": (encoded(np.dstack([HIDDEN, ALPHA])), 0),
    "nearly.png": (encoded(GREY + np.array([0, 1, 0], np.uint8)), 1),
    "lossless.webp": (encoded(GREY, "WEBP", lossless=True), 0),
    "420.jpg": (encoded(GREY, "JPEG"), 3),
    "444.jpg": (encoded(GREY, "JPEG", subsampling=0), 3),
    "rgb.jpg": (encoded(GREY, "JPEG", subsampling=0, keep_rgb=True), 3),
    "lossy.webp": (encoded(GREY, "WEBP", quality=90), 3),
    "a.heic": (heic(GREY), 3),
    "a.avif": (encoded(GREY, "AVIF", quality=90), 3),
}


def spread(photo: imaging.Photo) -> int:
    """Largest distance of the channels of a visible pixel, in levels."""
    pixels = photo.pixels if photo.alpha is None else photo.pixels[photo.alpha > 0][None]
    return int((pixels.max(axis=2) - pixels.min(axis=2)).max())


SLOW = {"nearly.png", "lossless.webp", "444.jpg", "lossy.webp", "a.avif"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in FILES])
def test_no_colour_comes_in(name: str, tmp_path: Path, protect_now: Protect) -> None:
    data, allowed = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    (row,) = protect_now(path, steps=90, tau=0.05, file_options=FileOptions(lossy_formats=True))
    assert row.status == "protected", row.reason
    written = imaging.read(path.read_bytes(), name=name)
    assert spread(written) <= allowed
    before = imaging.read(data, name=name)
    assert not np.array_equal(written.pixels, before.pixels)


def test_noise_brings_none_in_either(tmp_path: Path, protect_now: Protect) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FILES["rgb.png"][0])
    protect_now(path, method="noise", steps=None, accept_best=True)
    written = np.asarray(Image.open(path)).astype(int)
    assert spread(imaging.read(path.read_bytes(), name="a")) == 0
    assert np.abs(written - GREY).max() == 8


def test_a_tint_is_searched_in_colour(tmp_path: Path, protect_now: Protect) -> None:
    path = tmp_path / "sepia.png"
    sepia = GREY.copy()
    sepia[..., 2] -= 12
    path.write_bytes(encoded(sepia))
    protect_now(path)
    changed = np.asarray(Image.open(path)).astype(int) - sepia
    assert (changed[..., 0] != changed[..., 2]).any()
