from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hashshield.bench.defences import INPUT_DEFENCES, MODEL_DEFENCES, detection_auc, fine_tuned
from hashshield.metrics.image import psnr_db
from hashshield.models.load import open_models
from tiny_net import picture


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
