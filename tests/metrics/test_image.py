from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hashshield.metrics import image
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from tiny_net import picture


def noisy(pixels: NDArray[np.uint8], amount: int, seed: int) -> NDArray[np.uint8]:
    change = np.random.default_rng(seed).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels.astype(int) + change, 0, 255).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 60), st.integers(11, 60), st.sampled_from([1, 3]), st.integers(0, 255), st.integers(0, 1000))
def test_psnr_and_ssim_agree_with_scikit_image(height: int, width: int, channels: int, amount: int, seed: int) -> None:
    one = picture(height, width, seed=seed, channels=channels)
    other = noisy(one, amount, seed)
    similarity = structural_similarity(
        one, other, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim(one, other) == pytest.approx(similarity, abs=2e-4)
    if (one != other).any():
        assert psnr_db(one, other) == pytest.approx(peak_signal_noise_ratio(one, other, data_range=255))
    assert linf_levels(one, other) == np.abs(one.astype(int) - other).max()


def test_a_photo_against_itself() -> None:
    one = picture()
    assert psnr_db(one, one) == math.inf
    assert ssim(one, one) == pytest.approx(1.0)
    assert linf_levels(one, one) == 0


def test_black_against_white() -> None:
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert psnr_db(black, white) == 0.0
    assert linf_levels(black, white) == linf_levels(white, black) == 255


@pytest.mark.parametrize("strip", [1, 1000, 5000])
def test_strips_agree_with_one_strip(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = picture(201, 33, seed=4)
    other = noisy(one, 9, 1)
    other[-1, -1, -1] = 255
    whole = psnr_db(one, other), ssim(one, other), linf_levels(one, other)
    monkeypatch.setattr(image, "_STRIP_VALUES", strip)
    assert (psnr_db(one, other), ssim(one, other), linf_levels(one, other)) == pytest.approx(whole, abs=1e-6)


def test_other_shapes_are_refused() -> None:
    for measure in (psnr_db, linf_levels):
        with pytest.raises(ValueError, match="shapes differ"):
            measure(picture(40, 40), picture(40, 41))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(picture(10, 40), picture(10, 40))
