"""A sound file never trips the bound on coding; a picture that was sheared, shifted or recoloured always does."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from hashshield import imaging

Pixels = Any

LOSSY = [
    *(("JPEG", {"quality": q, "subsampling": s}) for q in (1, 10, 50, 90, 100) for s in (0, 2)),
    ("JPEG", {"quality": 80, "subsampling": 1, "progressive": True}),
    *(("WEBP", {"quality": q}) for q in (1, 30, 80, 100)),
    ("AVIF", {"quality": 40}),
    ("HEIF", {"quality": 40}),
]


def coded(pixels: Pixels, kind: str, options: dict[str, Any]) -> imaging.Photo:
    out, image = io.BytesIO(), Image.fromarray(pixels)
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(out, **options)
    else:
        image.save(out, kind, **options)
    return imaging.read(out.getvalue(), name="a")


def photos(data: Path) -> dict[str, Pixels]:
    """A part of a real photo, and what coders find hardest: squares of pure colours, noise, stripes."""
    generator = np.random.default_rng(5)
    squares = np.full((160, 200, 3), 255, np.uint8)
    for _ in range(150):
        (y, x), size = generator.integers(0, 150, 2), generator.integers(1, 10)
        squares[y : y + size, x : x + size] = generator.choice([0, 255], 3)
    stripes = np.zeros((90, 120, 3), np.uint8)
    stripes[:, ::2], stripes[::3] = (255, 0, 0), (0, 0, 255)
    return {
        "real": np.asarray(Image.open(data / "kangaroo.jpg").convert("RGB"))[:163, :205],
        "squares": squares,
        "noise": generator.integers(0, 256, (90, 120, 3), dtype=np.uint8),
        "stripes": stripes,
    }


def changed(pixels: Pixels, most: int) -> Pixels:
    """Coarse noise of at most that many levels."""
    height, width = pixels.shape[:2]
    generator = np.random.default_rng(height)
    coarse = generator.normal(0, most or 1, (height // 3, width // 3, 3)).clip(-most, most).astype(np.float32)
    layers = [np.asarray(Image.fromarray(layer).resize((width, height))) for layer in np.moveaxis(coarse, 2, 0)]
    return np.clip(pixels + np.rint(np.dstack(layers)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("most", [0, 8, 40])
@pytest.mark.parametrize("name", ["real", "squares", "noise", "stripes"])
def test_a_sound_file_is_never_refused(name: str, most: int, data: Path) -> None:
    for kind, options in LOSSY:
        photo = coded(photos(data)[name], kind, options)
        meant = changed(photo.pixels, most)
        written = imaging.read(imaging.write(photo, meant), name="a")
        assert imaging.departure(photo, meant, written) is None, (kind, options)


def sheared(pixels: Pixels) -> Pixels:
    """Rows of blocks, each further to the side: what a wrong number of blocks in an MCU does."""
    rows = [np.roll(pixels[top : top + 8], top, axis=1) for top in range(0, len(pixels), 8)]
    return np.concatenate(rows)


def block_lost(pixels: Pixels) -> Pixels:
    lost = pixels.copy()
    lost[80:88, 64:72] += 128  # wraps round: dark becomes light, and light dark
    return lost


BROKEN: dict[str, Callable[[Pixels], Pixels]] = {
    "sheared": sheared,
    "one pixel aside": lambda pixels: np.roll(pixels, 1, axis=1),
    "one pixel down": lambda pixels: np.roll(pixels, 1, axis=0),
    "upside down": lambda pixels: pixels[::-1].copy(),
    "red is blue": lambda pixels: pixels[..., ::-1].copy(),
    "one block lost": block_lost,
    "twice the contrast": lambda pixels: np.clip(pixels * 2.0 - 128, 0, 255).astype(np.uint8),
    "all a little lighter": lambda pixels: np.clip(pixels.astype(int) + 30, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_another_picture_is_refused(broken: str, data: Path) -> None:
    for kind, options in [*LOSSY, ("PNG", {}), ("WEBP", {"lossless": True})]:
        if options.get("quality", 100) < 10 and broken.startswith("one"):
            continue  # a pixel less is less than what such a file loses anyway
        photo = coded(photos(data)["real"], kind, options)
        meant = changed(photo.pixels, 8)
        written = imaging.read(imaging.write(photo, BROKEN[broken](meant)), name="a")
        assert imaging.departure(photo, meant, written) is not None, (kind, options)


def test_a_lossless_file_is_exact_wherever_a_pixel_shows(data: Path) -> None:
    pixels = photos(data)["real"]
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha[:20] = 0
    photo = coded(np.dstack([pixels, alpha]), "PNG", {})
    meant = changed(pixels, 8)
    written = imaging.read(imaging.write(photo, meant), name="a")
    assert not np.array_equal(written.pixels, meant), "hidden pixels are kept"
    assert imaging.departure(photo, meant, written) is None
    meant[30, 40, 1] ^= 1
    assert "the first at 40,30" in str(imaging.departure(photo, meant, written))


def test_a_pixel_that_would_turn_transparent_may_stay_as_it_was(data: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(photos(data)["real"]).save(out, "PNG", transparency=(9, 8, 7))
    photo = imaging.read(out.getvalue(), name="a")
    meant = changed(photo.pixels, 8)
    meant[3, 5] = meant[50, 60] = (9, 8, 7)
    written = imaging.read(imaging.write(photo, meant), name="a")
    assert imaging.departure(photo, meant, written) is None


def test_wrong_tables_are_refused(data: Path) -> None:
    photo = coded(photos(data)["real"], "JPEG", {"quality": 90})
    meant = changed(photo.pixels, 8)
    good = imaging.write(photo, meant)
    place = good.index(b"\xff\xdb") + 5
    bad = good[:place] + bytes(min(255, 2 * step) for step in good[place : place + 64]) + good[place + 64 :]
    assert imaging.departure(photo, meant, imaging.read(good, name="a")) is None
    assert imaging.departure(photo, meant, imaging.read(bad, name="a")) is not None
