from __future__ import annotations

import numpy as np
import pytest

from hashshield.bench.distortions import DISTORTIONS, amplified, distorted
from hashshield.metrics.image import linf_levels, psnr_db
from tiny_net import picture


@pytest.mark.parametrize("name", DISTORTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_distortion_is_as_strong_as_the_paper_says(name: str, seed: int) -> None:
    distortion, wanted = DISTORTIONS[name]
    pixels = picture(240, 320, seed=seed)
    if name == "mosaic":
        # Smooth pictures hide in blocks; a photo has edges.
        pixels = np.where(np.indices((240, 320)).sum(0)[..., None] // 9 % 2, pixels, 255 - pixels).astype(np.uint8)
    after, strength = distorted(pixels, distortion, wanted, seed=3)
    assert 0 < strength < 1
    assert after.shape == pixels.shape
    assert psnr_db(after, pixels) == pytest.approx(wanted, abs=0.6 if name == "mosaic" else 0.15)
    again, _ = distorted(pixels, distortion, wanted, seed=3)
    assert (again == after).all()


def test_what_each_distortion_does() -> None:
    pixels = picture(64, 64, seed=5)
    generator = np.random.default_rng(0)
    brighter = DISTORTIONS["brightness"][0](pixels, 10 / 255, generator)
    assert (brighter == np.minimum(pixels + np.uint16(10), 255)).all()
    paler = DISTORTIONS["transparency"][0](pixels, 0.5, generator)
    assert np.abs(paler - (pixels.astype(float) + 255) / 2).max() <= 0.5
    noisy = DISTORTIONS["noise"][0](pixels, 4 / 255, generator).astype(int) - pixels
    assert set(np.unique(noisy)) == set(range(-4, 5))
    blocks = DISTORTIONS["mosaic"][0](pixels, 7 / 31, generator)
    assert (blocks.reshape(8, 8, 8, 8, 3) == blocks[::8, ::8][:, None, :, None]).all()


def test_a_change_is_made_as_large_as_a_psnr_and_never_smaller() -> None:
    before = picture(96, 96, seed=7)
    noise = np.random.default_rng(1).normal(0, 1.2, before.shape)
    after = np.clip(before + np.rint(noise), 0, 255).astype(np.uint8)
    assert psnr_db(after, before) > 43
    larger = amplified(before, after, 38, tau=0.032, seed=0)
    assert psnr_db(larger, before) == pytest.approx(38, abs=0.1)
    assert linf_levels(larger, before) <= 8
    moved = after != before
    assert np.corrcoef((larger.astype(int) - before)[moved], (after.astype(int) - before)[moved])[0, 1] > 0.9
    assert (larger[~moved] == before[~moved]).all()
    assert amplified(before, after, 50, tau=0.032, seed=0) is after
    # Tau comes first.
    assert linf_levels(amplified(before, after, 21, tau=0.01, seed=0), before) == 2


def test_a_photo_that_cannot_be_changed_so_much_gets_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.full((32, 32, 3), 250, np.uint8)
    after, strength = distorted(flat, DISTORTIONS["brightness"][0], 13.0, seed=0)
    assert (after == 255).all()
    assert strength > 5 / 255 - 0.01
