from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hashshield.metrics import image
from hashshield.metrics.image import dhash, linf_levels, perceptual_rows, phash, psnr_db, ssim
from hashshield.types import PerceptualRow
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


@settings(max_examples=15, deadline=None)
@given(st.integers(33, 200), st.integers(33, 200), st.integers(0, 1000))
def test_phash_is_that_of_a_transform_from_elsewhere(height: int, width: int, seed: int) -> None:
    image = Image.fromarray(picture(height, width, seed=seed))
    low = dctn(np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float))[:8, :8]
    sure = np.abs(low - np.median(low)) > 1e-6  # the two middle ones are the median's neighbours
    np.testing.assert_array_equal(phash(image)[sure.ravel()], (low > np.median(low))[sure])


def test_known_hashes(data: Path) -> None:
    """What imagehash 4.3.2 says of the fixture photos."""
    for name, known in KNOWN.items():
        with Image.open(data / name) as photo:
            image = photo.convert("RGB")
        assert [np.packbits(of(image)).tobytes().hex() for of in (phash, dhash)] == known


KNOWN = {
    "kangaroo.jpg": ["eddf72272c883960", "46403377a68e87a7"],
    "lotus.jpg": ["9e9a136320bfe6c2", "dd70683587417165"],
    "sunflower.jpg": ["c26d0ce478977396", "32f0cccccccce871"],
}


def test_dhash_sees_slopes_and_nothing_else() -> None:
    ramp = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], 80, axis=0).repeat(3, axis=2)
    assert dhash(Image.fromarray(ramp)).all()
    assert not dhash(Image.fromarray(ramp[:, ::-1])).any()
    assert not dhash(Image.new("RGB", (90, 80), (9, 99, 199))).any()


def test_rows_of_the_same_and_of_another_photo(data: Path) -> None:
    with Image.open(data / "lotus.jpg") as one, Image.open(data / "kangaroo.jpg") as other:
        before, after = one.convert("RGB"), other.convert("RGB")
    same, different = perceptual_rows(before, before), perceptual_rows(before, after)
    assert [(row.hash, row.bits, row.threshold) for row in same] == [
        ("pHash", 64, 10),
        ("dHash", 64, 10),
        ("PDQ", 256, 31),
    ]
    for row in same[:2]:
        assert (row.distance, row.matches, row.reason) == (0, True, None)
    assert different[0].distance == np.count_nonzero(phash(before) != phash(after)) > 10
    assert different[1].distance == np.count_nonzero(dhash(before) != dhash(after)) > 10
    assert [row.matches for row in different[:2]] == [False, False]


def test_pdq(data: Path) -> None:
    pytest.importorskip("pdqhash", reason="the extra pdq is not installed")
    with Image.open(data / "lotus.jpg") as one, Image.open(data / "kangaroo.jpg") as other:
        before, after = one.convert("RGB"), other.convert("RGB")
    assert perceptual_rows(before, before)[2] == PerceptualRow("PDQ", 256, 31, 0, True)
    (row,) = perceptual_rows(before, after)[2:]
    assert row.distance is not None
    assert row.distance > 60
    assert row.matches is False


def test_pdq_that_is_not_installed_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    image = Image.new("RGB", (64, 64))
    row = perceptual_rows(image, image)[2]
    assert (row.distance, row.matches) == (None, None)
    assert row.reason == "pdqhash is not installed; add it with `pipx inject hashshield pdqhash`"
