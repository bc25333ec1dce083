from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hashshield.attacks import objectives

torch_double = torch.float64
CODE = torch.tensor([[0.7, -0.4, 1.8, -2.5], [0.0, 0.1, -0.3, 0.9]], dtype=torch_double)
WANTED = torch.tensor([[1, 1, -1, -1], [-1, 1, 1, -1]], dtype=torch_double)
K = 4


def gradient(loss: Callable[[Tensor], Tensor], code: Tensor = CODE) -> Tensor:
    leaf = code.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    return found


def per_bit(rule: Callable[[float, float], float], code: Tensor = CODE, wanted: Tensor = WANTED) -> Tensor:
    """A matrix made by hand, one bit at a time."""
    rows = [[rule(float(c), float(h)) for c, h in zip(a, b, strict=True)] for a, b in zip(code, wanted, strict=True)]
    return torch.tensor(rows, dtype=torch_double)


def sgn(x: float) -> float:
    return 1.0 if x > 0 else -1.0


def test_the_sign_of_zero_is_minus_one_and_has_no_gradient() -> None:
    code = torch.tensor([[-1.0, 0.0, 2.0]], requires_grad=True)
    assert objectives.signs(code).tolist() == [[-1.0, -1.0, 1.0]]
    assert not objectives.signs(code).requires_grad
    assert objectives.signs(CODE).dtype == torch_double


def test_straight_through_is_the_sign_forwards_and_the_identity_backwards() -> None:
    assert torch.equal(objectives.straight_through(CODE), objectives.signs(CODE))
    weights = torch.tensor([[3.0, -1.0, 0.5, 2.0]], dtype=torch_double)
    assert torch.equal(gradient(lambda c: (objectives.straight_through(c) * weights).sum(1)), weights.expand(2, 4))


def test_margin() -> None:
    aimed = torch.tensor([0.3, 0.5], dtype=torch_double)
    expected = [
        sum(max(a - c * h, 0) ** 2 for c, h in zip(x.tolist(), w.tolist(), strict=True))
        for x, w, a in zip(CODE, WANTED, aimed.tolist(), strict=True)
    ]
    assert objectives.margin(CODE, WANTED, aimed).tolist() == pytest.approx(expected)
    by_hand = torch.stack(
        [per_bit(lambda c, h, a=a: -2 * h * max(a - c * h, 0.0))[row] for row, a in enumerate(aimed.tolist())]
    )
    assert torch.allclose(gradient(lambda c: objectives.margin(c, WANTED, aimed)), by_hand)


def test_inner_product() -> None:
    expected = per_bit(lambda c, h: -sgn(c) * h / K).sum(1)
    assert torch.allclose(objectives.inner_product(CODE, WANTED), expected)
    assert torch.allclose(gradient(lambda c: objectives.inner_product(c, WANTED)), per_bit(lambda c, h: -h / K))


@pytest.mark.parametrize("alpha", [1 / K, 0.1 / K])
@pytest.mark.parametrize("p", [2.0, 3.0])
def test_the_papers_loss(alpha: float, p: float) -> None:
    value = per_bit(lambda c, h: alpha * abs(c - sgn(c)) ** p - sgn(c) * h / K).sum(1)
    assert torch.allclose(objectives.relaxation_norm(CODE, WANTED, alpha=alpha, p=p), value)
    # d/dc alpha |c - s|^p = alpha p |c - s|^(p-1) sign(c - s), s held; and -h / K from the straight-through product.
    by_hand = per_bit(lambda c, h: alpha * p * abs(c - sgn(c)) ** (p - 1) * math.copysign(1, c - sgn(c)) - h / K)
    assert torch.allclose(gradient(lambda c: objectives.relaxation_norm(c, WANTED, alpha=alpha, p=p)), by_hand)


def test_the_literal_alpha_holds_wrong_bits_on_their_side() -> None:
    """Alpha = 1 / K, p = 3: for a wrong bit near 0 descent moves away from the wanted sign; below 1 / (p K) never."""
    codes = torch.linspace(-0.999, -0.001, 200, dtype=torch_double)[:, None].expand(-1, K).contiguous()
    wanted = torch.ones_like(codes)

    def towards(alpha: float) -> Tensor:
        return -gradient(lambda c: objectives.relaxation_norm(c, wanted, alpha=alpha, p=3.0), codes)

    near_zero = (1 + codes[:, 0]) > math.sqrt(1 / 3)
    literal = towards(1 / K)
    assert (literal[near_zero] < 0).all(), "opposes the goal where 3 (1 - |c|)^2 > 1"
    assert (literal[~near_zero] > 0).all()
    assert (towards(0.99 / (3 * K)) > 0).all()
    assert (towards(0.1 / K) > 0).all()
    assert (
        -gradient(lambda c: objectives.margin(c, wanted, torch.full((200,), 0.3, dtype=torch_double)), codes) > 0
    ).all()


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_tanh_product(alpha: float) -> None:
    each = torch.tensor([alpha, 2 * alpha], dtype=torch_double)
    expected = [
        -sum(math.tanh(a * c) * h for c, h in zip(x, w, strict=True)) / K
        for x, w, a in zip(CODE.tolist(), WANTED.tolist(), each.tolist(), strict=True)
    ]
    assert objectives.tanh_product(CODE, WANTED, each).tolist() == pytest.approx(expected)
    by_hand = torch.stack(
        [
            per_bit(lambda c, h, a=a: -h * a * (1 - math.tanh(a * c) ** 2) / K)[row]
            for row, a in enumerate(each.tolist())
        ]
    )
    assert torch.allclose(gradient(lambda c: objectives.tanh_product(c, WANTED, each)), by_hand)


def test_hag() -> None:
    alpha = torch.tensor([0.5, 1.0], dtype=torch_double)

    def value(codes: list[float], wanted: list[float], a: float) -> tuple[float, list[float]]:
        relaxed = [math.tanh(a * c) for c in codes]
        unmet = [abs(r - h) > 0.5 for r, h in zip(relaxed, wanted, strict=True)]
        m = sum(unmet)
        inner = sum(r * h for r, h, u in zip(relaxed, wanted, unmet, strict=True) if u) / m - 1
        balance = sum(r for r, u in zip(relaxed, unmet, strict=True) if u) / K
        slope = [
            2 * (inner * h / m + balance / K) * a * (1 - r * r) if u else 0.0
            for r, h, u in zip(relaxed, wanted, unmet, strict=True)
        ]
        return inner**2 + balance**2, slope

    rows = [value(c, h, a) for c, h, a in zip(CODE.tolist(), WANTED.tolist(), alpha.tolist(), strict=True)]
    assert objectives.hag(CODE, WANTED, alpha).tolist() == pytest.approx([v for v, _ in rows])
    by_hand = torch.tensor([g for _, g in rows], dtype=torch_double)
    assert torch.allclose(gradient(lambda c: objectives.hag(c, WANTED, alpha)), by_hand)


def test_hag_is_over_when_every_bit_is_met() -> None:
    met = WANTED * 3
    one = torch.ones(2, dtype=torch_double)
    assert objectives.hag(met, WANTED, one).tolist() == [0.0, 0.0]
    assert (gradient(lambda c: objectives.hag(c, WANTED, one), met) == 0).all()


def test_feature_similarity_is_the_cosine() -> None:
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch_double)
    original = torch.tensor([[6.0, 8.0], [0.0, 2.0]], dtype=torch_double)
    assert objectives.feature_similarity(features, original).tolist() == pytest.approx([1.0, 0.0])
    slope = gradient(lambda f: objectives.feature_similarity(f, original), features)
    # d cos / d f = (o / |o| - cos f / |f|) / |f|
    assert torch.allclose(slope, torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch_double), atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, w: objectives.margin(c, w, torch.full((len(c),), 0.3, dtype=torch_double)),
        objectives.inner_product,
        lambda c, w: objectives.relaxation_norm(c, w, alpha=0.25, p=3.0),
        lambda c, w: objectives.tanh_product(c, w, torch.ones(len(c), dtype=torch_double)),
        lambda c, w: objectives.hag(c, w, torch.ones(len(c), dtype=torch_double)),
    ],
)
def test_losses_are_per_photo(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    together = loss(CODE, WANTED)
    assert together.shape == (2,)
    for row in range(2):
        assert float(loss(CODE[row : row + 1], WANTED[row : row + 1])) == pytest.approx(float(together[row]))


def test_certainty_gap_pairs_sorted_margins() -> None:
    margins = torch.tensor([[0.9, 0.1, 0.4, 0.2], [0.1, 0.5, 0.3, 0.2]], dtype=torch_double)
    turned = torch.tensor([[True, True, False, False], [True, False, False, False]])
    # 0.1 and 0.9 against 0.2 and 0.4; then 0.1 against the least certain of three.
    assert objectives.certainty_gap(margins, turned).tolist() == pytest.approx([0.1**2 + 0.5**2, 0.1**2])
    found = gradient(lambda code: objectives.certainty_gap(code, turned), margins)
    assert found.tolist()[0] == pytest.approx([1.0, -0.2, -1.0, 0.2])
    assert found.tolist()[1] == pytest.approx([-0.2, 0.0, 0.0, 0.2])


def test_certainty_gap_without_turned_bits_is_nothing() -> None:
    none = torch.zeros(2, K, dtype=torch.bool)
    for turned in (none, ~none):
        assert objectives.certainty_gap(CODE, turned).tolist() == [0.0, 0.0]
        assert gradient(lambda code, mask=turned: objectives.certainty_gap(code, mask)).abs().max() == 0
