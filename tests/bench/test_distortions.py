from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hashshield.bench.distortions import (
    DISTORTIONS,
    INPUT_DEFENCES,
    MODEL_DEFENCES,
    amplified,
    detection_auc,
    distorted,
    fine_tuned,
)
from hashshield.metrics.image import linf_levels, psnr_db
from hashshield.models.load import open_models
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


@pytest.mark.parametrize("name", INPUT_DEFENCES)
def test_filters_keep_what_they_leave_of_a_photo(name: str) -> None:
    pixels = picture(60, 80, seed=1)
    after = INPUT_DEFENCES[name](pixels)
    assert after.dtype == np.uint8
    assert after.shape == ((30, 40, 3) if name == "half size" else pixels.shape)
    if after.shape == pixels.shape:
        assert 20 < psnr_db(after, pixels) < 70


def test_stronger_jpegs_lose_more() -> None:
    pixels = picture(64, 64, seed=2)
    lost = [psnr_db(INPUT_DEFENCES[f"jpeg q{quality}"](pixels), pixels) for quality in (90, 75, 50, 30)]
    assert lost == sorted(lost, reverse=True)


def test_filters_take_noise_out_and_the_bilateral_one_keeps_edges() -> None:
    clean = np.zeros((40, 40, 3), np.uint8) + 60
    clean[:, 20:] = 200
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 8, clean.shape), 0, 255).astype(np.uint8)
    for name in ("median", "bilateral"):
        assert psnr_db(INPUT_DEFENCES[name](noisy), clean) > psnr_db(noisy, clean) + 4
    edge = slice(18, 22)
    kept, blurred = (
        np.abs(INPUT_DEFENCES[name](noisy)[:, edge].astype(int) - clean[:, edge]).mean()
        for name in ("bilateral", "blur")
    )
    assert kept < blurred / 3


def test_other_ways_to_the_code_agree_with_it_on_plain_photos(tiny: Path) -> None:
    (opened,) = open_models([f"{tiny}:24"])
    flat = np.full((64, 64, 3), 120, np.uint8)
    image = torch.full((1, 3, 32, 32), 120 / 255)
    with torch.inference_mode():
        code = opened.model(image).code[0]
        assert MODEL_DEFENCES["five crops"](opened, flat).tolist() == pytest.approx(code.tolist(), abs=1e-3)
        vote = MODEL_DEFENCES["vote under noise"](opened, picture(64, 64, seed=3))
        assert vote.abs().max() <= 1
        assert (MODEL_DEFENCES["vote under noise"](opened, picture(64, 64, seed=3)) == vote).all()


def test_fine_tuning_learns_the_pairs_and_keeps_the_index(tiny: Path) -> None:
    (opened,) = open_models([f"{tiny}:24"])
    model, generator = opened.model, torch.Generator().manual_seed(0)
    width = model.head.in_features
    kept = torch.randn(300, width, generator=generator)
    clean = kept[:4]
    protected = torch.randn(4, width, generator=generator)
    learnt = fine_tuned(model, protected, clean, kept, seed=0)
    before, after, own = (m.codes(f).code for m, f in ((model, protected), (learnt, protected), (model, clean)))
    assert (after - own).square().mean() < 0.5 * (before - own).square().mean()
    moved = (learnt.codes(kept).code - model.codes(kept).code).square().mean()
    assert moved < 0.2 * model.codes(kept).code.square().mean()
    assert not any(p.requires_grad for p in learnt.parameters())
    nothing = fine_tuned(model, protected[:0], clean[:0], kept, seed=0)
    assert (nothing.codes(kept).code == model.codes(kept).code).all()


def test_detection_is_the_area_under_its_curve() -> None:
    clean, changed = np.array([0, 1, 1, 3]), np.array([1, 5, 6])
    pairs = [(1.0 if b > a else 0.5 if b == a else 0.0) for a in clean for b in changed]
    assert detection_auc(clean, changed) == pytest.approx(np.mean(pairs))
    assert detection_auc(clean, clean) == 0.5
