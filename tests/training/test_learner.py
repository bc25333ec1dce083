"""The losses of a copy detector against sums written out, its memory, and the rotation to bits."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from copy_detector import RECIPE
from hashshield.models.hashing import HashNet
from hashshield.training.learner import (
    CopyLearner,
    Learner,
    contrast_loss,
    entropy_loss,
    iterative_quantisation,
    pairwise_likelihood,
    quantisation,
)
from hashshield.training.recipe import LossWeights
from tiny_net import ARCH


def learner(hidden: int = 0, multilabel: bool = False, **loss: float) -> Learner:
    torch.manual_seed(0)
    return Learner(HashNet(ARCH, (8, 12), hidden_width=hidden), 3, LossWeights(**loss), multilabel=multilabel).eval()


@pytest.mark.parametrize("hidden", [0, 10])
def test_folding_the_standardisation_keeps_the_codes(hidden: int) -> None:
    made = learner(hidden)
    features = torch.randn(50, 1024) * torch.rand(1024) * 5 + torch.randn(1024) * 3
    features[:, 7] = 2.0
    made.standardise(features, trained=False)
    assert torch.allclose(((features - made.feature_mean) / made.feature_std).mean(0), torch.zeros(1024), atol=1e-4)
    before = made.codes(features)
    made.fold_standardisation()
    direct = made.network.codes(features)
    for bits in (8, 12):
        assert torch.allclose(before[bits], direct[bits], rtol=1e-3, atol=1e-3)
        assert torch.allclose(before[bits], made.codes(features)[bits], rtol=1e-3, atol=1e-3)
    made.fold_standardisation()
    assert torch.equal(direct[8], made.network.codes(features)[8]), "a second time does nothing"


@pytest.mark.parametrize("hidden", [0, 10])
def test_standardising_layers_that_have_learnt_keeps_their_codes(hidden: int) -> None:
    made = learner(hidden)
    features = torch.randn(50, 1024) * torch.rand(1024) * 5 + torch.randn(1024) * 3
    before, untouched = made.codes(features), learner(hidden)
    made.standardise(features, trained=True)
    untouched.standardise(features, trained=False)
    for bits in (8, 12):
        assert torch.allclose(before[bits], made.codes(features)[bits], rtol=1e-3, atol=1e-3)
        assert not torch.allclose(before[bits], untouched.codes(features)[bits], rtol=0.1, atol=0.1)


@torch.no_grad()
def test_the_loss_is_the_mean_over_code_lengths() -> None:
    made = learner(quantisation=0.2, classification=0.0)
    features, labels = torch.randn(6, 1024), torch.eye(3)[[0, 0, 1, 1, 2, 2]]
    similar = labels @ labels.T > 0
    parts = [
        pairwise_likelihood(c, c, similar, positive_share=0.5) + 0.2 * quantisation(c)
        for c in made.codes(features).values()
    ]
    assert float(made(features, labels)) == pytest.approx(float(sum(parts, torch.zeros(()))) / 2)


@pytest.mark.parametrize(("multilabel", "second"), [(False, False), (True, True), (True, False)])
@torch.no_grad()
def test_classification_counts_one_label_or_several(multilabel: bool, second: bool) -> None:
    made, plain = learner(multilabel=multilabel, classification=1.0), learner(classification=0.0)
    features, labels = torch.randn(4, 1024), torch.eye(3)[[0, 1, 2, 0]]
    if second:
        labels[0, 1] = 1
    extra = float(made(features, labels)) - float(plain(features, labels))
    expected = 0.0
    for bits, code in made.codes(features).items():
        scores = made.classifiers[str(bits)](torch.tanh(code))
        if multilabel:
            p = torch.sigmoid(scores)
            expected += float(-(labels * p.log() + (1 - labels) * (1 - p).log()).mean()) / 2
        else:
            expected += float(-scores.log_softmax(1)[torch.arange(4), labels.argmax(1)].mean()) / 2
    assert extra == pytest.approx(expected, rel=1e-4)


def term(similar: bool, theta: float) -> float:
    """DPSH, equation 2, one pair: -(s * theta - log(1 + e^theta))."""
    return math.log(1 + math.exp(theta)) - (theta if similar else 0.0)


CODE = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
OTHER = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
SIMILAR = torch.tensor([[True, False, False], [False, False, True]])
THETA = [[1.0, 0.5, 3.0], [0.5, -0.75, -1.5]]


def terms(similar: bool) -> list[float]:
    return [term(similar, THETA[i][j]) for i in range(2) for j in range(3) if bool(SIMILAR[i, j]) is similar]


def test_pairs_as_they_come() -> None:
    expected = (sum(terms(True)) + sum(terms(False))) / 6
    assert float(pairwise_likelihood(CODE, OTHER, SIMILAR, positive_share=None)) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_similar_pairs_carry_their_share(share: float) -> None:
    expected = share * sum(terms(True)) / 2 + (1 - share) * sum(terms(False)) / 4
    assert float(pairwise_likelihood(CODE, OTHER, SIMILAR, positive_share=share)) == pytest.approx(expected)


@pytest.mark.parametrize("similar", [True, False])
def test_a_batch_of_one_kind_has_no_share_to_give(similar: bool) -> None:
    one_kind = torch.full((2, 3), similar)
    expected = sum(term(similar, theta) for row in THETA for theta in row) / 6
    assert float(pairwise_likelihood(CODE, OTHER, one_kind, positive_share=0.5)) == pytest.approx(expected)


def test_large_products_do_not_overflow() -> None:
    code = torch.tensor([[1e4, 1e4]])
    assert float(pairwise_likelihood(code, code, torch.tensor([[False]]), positive_share=None)) == pytest.approx(1e8)
    assert float(pairwise_likelihood(code, code, torch.tensor([[True]]), positive_share=None)) == 0.0


def test_quantisation_is_the_squared_distance_to_the_bits() -> None:
    assert float(quantisation(torch.tensor([[0.5, -2.0], [0.0, 1.0]]))) == pytest.approx((0.25 + 1 + 1 + 0) / 4)


def test_gradients_bring_similar_codes_together() -> None:
    code = torch.tensor([[1.0, 0.1], [-0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    similar = torch.eye(2, dtype=torch.bool) | True
    (gradient,) = torch.autograd.grad(pairwise_likelihood(code, code, similar, positive_share=0.5), code)
    moved = (code - 0.5 * gradient).detach()
    assert float(moved[0] @ moved[1]) > float((code[0] @ code[1]).detach())


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
