from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging_samples import jpeg, png, scene, with_segments, xmp_segment
from PIL import Image, ImageOps

from hashshield import imaging
from tiny_net import encoded, picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_shows(orientation: int) -> None:
    data = jpeg(scene(48, 64), exif=_pillow_exif(orientation))
    photo = imaging.read(data, name="photo.jpg")
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert photo.orientation == orientation
    assert np.array_equal(imaging.to_display_orientation(photo.pixels, orientation), shown)


@given(orientation=st.integers(1, 8), height=st.integers(1, 5), width=st.integers(1, 5), channels=st.integers(0, 3))
def test_stored_undoes_upright(orientation: int, height: int, width: int, channels: int) -> None:
    shape = (height, width, channels) if channels else (height, width)
    pixels = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    shown = imaging.to_display_orientation(pixels, orientation)
    assert shown.shape[:2] == ((width, height) if orientation >= 5 else (height, width))
    assert np.array_equal(imaging.to_stored_orientation(shown, orientation), pixels)


def test_digest_follows_pixels_and_not_metadata() -> None:
    pixels = scene()
    plain = imaging.read(png(pixels), name="a")
    tagged = imaging.read(png(pixels, dpi=(72, 72)), name="b")
    changed = imaging.read(png(pixels ^ 1), name="c")
    grey = imaging.read(png(pixels[..., :1]), name="d")
    opaque = imaging.read(png(np.dstack((pixels, np.full(pixels.shape[:2], 255, np.uint8)))), name="e")
    digests = [imaging.pixel_digest(photo) for photo in (plain, changed, grey, opaque)]
    assert imaging.pixel_digest(tagged) == digests[0]
    assert len(set(digests)) == 4


def test_digest_ignores_orientation() -> None:
    data = jpeg(scene())
    turned = with_segments(data, xmp_segment(b'<x tiff:Orientation="6"/>'))
    one, other = imaging.read(data, name="a"), imaging.read(turned, name="b")
    assert other.orientation == 6
    assert imaging.pixel_digest(one) == imaging.pixel_digest(other)


def test_write_refuses_another_shape_as_a_bug() -> None:
    photo = imaging.read(png(scene()), name="photo.png")
    with pytest.raises(ValueError, match="pixels are"):
        imaging.write(photo, photo.pixels[:-1])
    with pytest.raises(ValueError, match="pixels are"):
        imaging.write(photo, photo.pixels.astype(np.float32))  # type: ignore[arg-type]


def _pillow_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_a_picture_without_colour_has_one_plane_whatever_the_file_says() -> None:
    grey = np.repeat(picture(80, 100, channels=1), 3, axis=2)
    hidden = grey.copy()
    hidden[:9] = (200, 30, 30)
    alpha = np.full((80, 100, 1), 255, np.uint8)
    alpha[:9] = 0
    nearly = grey + np.random.default_rng(0).integers(0, 4, grey.shape, dtype=np.uint8)
    for data in (
        encoded(grey[..., :1]),
        encoded(grey),
        encoded(nearly),
        encoded(np.dstack([hidden, alpha])),
        encoded(grey, "JPEG"),
        encoded(grey, "JPEG", subsampling=0, keep_rgb=True),
        encoded(grey, "WEBP", quality=40),
        encoded(grey, "AVIF", quality=50),
    ):
        assert imaging.colour_channels(imaging.read(data, name="a")) == 1


def test_one_coloured_spot_or_a_tint_is_colour() -> None:
    grey = np.repeat(picture(200, 100, channels=1), 3, axis=2)
    spot, sepia = grey.copy(), grey.copy()
    spot[199, 99] = (180, 170, 170)
    sepia[..., 2] -= 5
    for pixels in (spot, sepia, picture()):
        assert imaging.colour_channels(imaging.read(encoded(pixels), name="a")) == 3
    assert imaging.colour_channels(imaging.read(encoded(sepia, "JPEG"), name="a")) == 3
