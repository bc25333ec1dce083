from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging_samples import jpeg, scene
from PIL import Image

from hashshield.imaging.jpeg.sampling import add_change, recover_samples


def planes(height: int, width: int, ratio: tuple[int, int]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    small = (-(-height // ratio[1]), -(-width // ratio[0]))
    return [np.full((height, width), 128, np.uint8), np.full(small, 128, np.uint8), np.full(small, 128, np.uint8)]


@given(
    levels=st.tuples(*[st.integers(-8, 8)] * 3), ratio=st.sampled_from([(1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (3, 1)])
)
def test_smooth_changes_come_through_on_average(levels: tuple[int, int, int], ratio: tuple[int, int]) -> None:
    before = np.full((64, 64, 3), 100, np.uint8)
    after = (before + np.array(levels)).astype(np.uint8)
    coded = planes(64, 64, ratio)
    add_change(coded, before, after, coded_as="ycc", ratios=[(1, 1), ratio, ratio])
    red, green, blue = levels
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    wanted = luma, (blue - luma) / 1.772, (red - luma) / 1.402
    for plane, mean in zip(coded, wanted, strict=True):
        assert plane.astype(float).mean() - 128 == pytest.approx(mean, abs=0.02)
        assert np.ptp(plane.astype(int)) <= 1


@pytest.mark.parametrize("coded_as", ["ycc", "rgb"])
def test_no_change_stays_none(coded_as: str) -> None:
    pixels = scene(70, 50)
    coded = planes(72, 56, (1, 1))
    add_change(coded, pixels, pixels.copy(), coded_as=coded_as, ratios=[(1, 1)] * 3)
    assert all((plane == 128).all() for plane in coded)


def test_change_is_local_and_goes_on_past_the_edges() -> None:
    before = np.full((300, 40, 3), 100, np.uint8)
    after = before.copy()
    after[290:, 30:] += 4
    coded = planes(304, 48, (2, 2))
    add_change(coded, before, after, coded_as="ycc", ratios=[(1, 1), (2, 2), (2, 2)])
    assert (coded[0][290:, 30:] == 132).all()
    assert (coded[0][:290] == 128).all()
    assert (coded[0][:, :30] == 128).all()


@pytest.mark.parametrize("ratio", [(2, 2), (3, 1), (4, 2)])
def test_components_of_rgb_may_be_smaller_than_the_picture(ratio: tuple[int, int]) -> None:
    before = np.full((600, 48, 3), 100, np.uint8)
    after = before + np.array((3, -5, 7), np.int16)
    after[:300, :24] = before[:300, :24]
    small = (600 // ratio[1], 48 // ratio[0])
    coded = [np.full((600, 48), 128, np.uint8), *(np.full(small, 128, np.uint8) for _ in range(2))]
    add_change(coded, before, after.astype(np.uint8), coded_as="rgb", ratios=[(1, 1), ratio, ratio])
    for plane, level in zip(coded, (131, 123, 135), strict=True):
        assert (plane[plane.shape[0] // 2 :] == level).all()
        assert (plane[: plane.shape[0] // 2, : plane.shape[1] // 2] == 128).all()


def test_rgb_and_grey_are_added_as_they_are_and_clipped() -> None:
    before = np.full((8, 8, 1), 100, np.uint8)
    coded = [np.full((8, 8), 254, np.uint8)]
    add_change(coded, before, before + np.uint8(3), coded_as="grey", ratios=[(1, 1)])
    assert (coded[0] == 255).all()
    pixels = scene(32, 40)
    held = [pixels[..., c].copy() for c in range(3)]
    add_change(held, pixels, pixels ^ 1, coded_as="rgb", ratios=[(1, 1)] * 3)
    assert np.array_equal(np.dstack(held), pixels ^ 1)


def test_the_size_of_strips_changes_nothing() -> None:
    image = Image.open(io.BytesIO(jpeg(scene(150, 90), subsampling=2)))
    image.draft("YCbCr", None)
    for plane in np.moveaxis(np.asarray(image), 2, 0):
        recovered = [recover_samples(plane, (2, 2), rows=rows) for rows in (2, 16, 50, 256)]
        assert recovered[0].shape == (75, 45)
        assert len({each.tobytes() for each in recovered}) == 1
