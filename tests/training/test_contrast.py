"""The losses of a copy detector against sums written out, its memory, and the rotation to bits."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from copy_detector import RECIPE
from hashshield.models.hashing import HashNet
from hashshield.training.contrast import CopyLearner, contrast_loss, entropy_loss, iterative_quantisation


def unit(count: int, seed: int, width: int = 8) -> torch.Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def test_contrast_is_infonce_over_all_but_the_same_photo() -> None:
    first, second, memory = unit(3, 1), unit(3, 2), unit(4, 3)
    photos, of = torch.tensor([7, 8, 9]), torch.tensor([8, 5, -1, 6])
    own, numbers = torch.cat([first, second]), [7, 8, 9, 7, 8, 9]
    total = 0.0
    for i in range(6):
        pair = (i + 3) % 6
        scores = {j: math.exp(float(own[i] @ own[j]) / 0.1) for j in range(6) if j != i and numbers[j] != numbers[i]}
        scores[pair] = math.exp(float(own[i] @ own[pair]) / 0.1)
        kept = [k for k in range(4) if int(of[k]) not in (-1, numbers[i])]
        repelling = sum(math.exp(float(own[i] @ memory[k]) / 0.1) for k in kept)
        total -= math.log(scores[pair] / (sum(scores.values()) + repelling))
    assert contrast_loss(first, second, photos, memory, of, heat=0.1).item() == pytest.approx(total / 6, rel=1e-5)


def test_entropy_is_of_the_distance_to_the_nearest_other_photo() -> None:
    own, memory = unit(4, 4), unit(3, 5)
    numbers, of = torch.tensor([1, 2, 1, 2]), torch.tensor([2, -1, 3])
    total = 0.0
    for i in range(4):
        others = [own[j] for j in range(4) if numbers[j] != numbers[i]]
        others += [memory[k] for k in range(3) if int(of[k]) not in (-1, int(numbers[i]))]
        total -= math.log(min(float((own[i] - other).norm()) for other in others))
    assert entropy_loss(own, numbers, memory, of).item() == pytest.approx(total / 4, rel=1e-5)


def test_equal_embeddings_keep_the_entropy_and_its_gradient_finite() -> None:
    own = unit(1, 6).repeat(2, 1).requires_grad_(True)
    loss = entropy_loss(own, torch.tensor([1, 2]), torch.zeros(0, 8), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert math.isfinite(loss.item())
    assert own.grad is not None
    assert bool(torch.isfinite(own.grad).all())


def test_the_memory_holds_the_newest_embeddings_and_whose_they_are() -> None:
    assert RECIPE.contrast is not None
    learner = CopyLearner(HashNet(RECIPE.model.arch, (256,)), RECIPE.contrast)
    batches = [(unit(9, 10 + n, 256), unit(9, 20 + n, 256), torch.arange(9) + 100 * n) for n in range(3)]
    for first, second, photos in batches:
        learner(first, second, photos)
    newest = torch.cat([each for first, second, _ in batches for each in (first, second)])[-40:]
    whose = torch.cat([photos for *_, photos in batches for _ in range(2)])[-40:]
    found = {(int(of), round(float(row[0]), 5)) for of, row in zip(learner.memory_of, learner.memory, strict=True)}
    assert found == {(int(of), round(float(row[0]), 5)) for of, row in zip(whose, newest, strict=True)}


def test_the_rotation_is_one_and_loses_less_than_the_axes_it_started_from() -> None:
    torch.manual_seed(0)
    spread = torch.randn(400, 12) @ torch.diag(torch.linspace(2, 0.2, 12)) + 3
    weight, bias = iterative_quantisation(spread)
    scale = weight.norm(dim=1).mean()
    torch.testing.assert_close(weight @ weight.T / scale**2, torch.eye(12), atol=1e-4, rtol=0)
    codes = spread @ weight.T + bias
    torch.testing.assert_close(codes.mean(0), torch.zeros(12), atol=1e-3, rtol=0)
    assert float(codes.abs().mean()) == pytest.approx(1, abs=1e-4)
    centred = spread - spread.mean(0)
    assert quantisation_error(codes) < 0.95 * quantisation_error(centred / centred.abs().mean())


def quantisation_error(codes: torch.Tensor) -> float:
    return float((codes - codes.sign()).square().mean())
