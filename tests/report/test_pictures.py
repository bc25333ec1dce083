from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hashshield.report.pictures import AMPLIFIED, Pictures, pictures
from tiny_net import picture

Pixels = NDArray[np.uint8]


def changed(height: int, width: int, *, at: tuple[int, int], levels: int = 4) -> tuple[Pixels, Pixels]:
    """A photo, and the same with 32 by 32 pixels lighter at (top, left)."""
    before = picture(height, width)
    after = before.copy()
    top, left = at
    after[top : top + 32, left : left + 32] += np.uint8(levels)
    return before, after


def opened(uri: str | None) -> Pixels:
    kind, _, coded = str(uri).partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(coded, validate=True)), formats=["WEBP"]) as image:
        assert not {"exif", "icc_profile", "xmp"} & set(image.info)
        return np.asarray(image.convert("RGB"))


def characters(found: Pictures) -> int:
    return sum(len(uri or "") for uri in (found.before, found.after, found.difference, found.overview))


def test_with_room_the_region_is_shown_pixel_for_pixel() -> None:
    before, after = changed(900, 1400, at=(700, 1200))
    found = pictures(before, after, room=4_000_000, redact=False)
    assert (found.width, found.height, found.quality) == (640, 440, None)
    part = np.s_[found.top : found.top + found.height, found.left : found.left + found.width]
    np.testing.assert_array_equal(opened(found.before), before[part])
    np.testing.assert_array_equal(opened(found.after), after[part])


@pytest.mark.parametrize("at", [(0, 0), (868, 1368), (300, 16), (480, 700)])
def test_the_region_is_where_most_was_changed(at: tuple[int, int]) -> None:
    before, after = changed(900, 1400, at=at)
    found = pictures(before, after, room=200_000, redact=False)
    assert 0 <= found.left <= 1400 - found.width
    assert 0 <= found.top <= 900 - found.height
    assert found.top <= at[0] <= found.top + found.height - 32
    assert found.left <= at[1] <= found.left + found.width - 32


def test_the_difference_is_amplified_on_grey() -> None:
    before, after = changed(96, 128, at=(32, 48))
    shown = opened(pictures(before, after, room=400_000, redact=False).difference).astype(int)
    assert abs(shown[40:56, 56:72].mean() - (128 + 4 * AMPLIFIED)) < 3
    assert abs(shown[:24].mean() - 128) < 3


@pytest.mark.parametrize(("height", "width"), [(33, 900), (900, 33), (40, 40), (441, 641)])
def test_photos_of_any_shape(height: int, width: int) -> None:
    before, after = changed(height, width, at=(0, 0))
    found = pictures(before, after, room=300_000, redact=False)
    assert opened(found.after).shape == (found.height, found.width, 3)
    assert (found.overview is None) == (found.width == width and found.height == height)


def test_little_room_is_kept_to() -> None:
    rng = np.random.default_rng(0)
    before = np.clip(picture(900, 1400) + rng.integers(-12, 13, (900, 1400, 3)), 0, 255).astype(np.uint8)
    after = np.clip(before + rng.integers(-2, 3, before.shape), 0, 255).astype(np.uint8)
    found = pictures(before, after, room=137_500, redact=False)
    assert found.quality is not None
    assert characters(found) <= 137_500 + 200


def test_redacted_pictures_hold_nothing_of_the_original() -> None:
    before, after = changed(96, 128, at=(32, 48))
    found = pictures(before, after, room=400_000, redact=True)
    assert (found.before, found.difference) == (None, None)
    np.testing.assert_array_equal(opened(found.after), after)
