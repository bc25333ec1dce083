from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hashshield.models.leaky import LeakyGradient, pass_through_dead, true_gradients
from hashshield.models.load import open_models


@pytest.mark.parametrize("most", [torch.inf, 6.0])
def test_values_are_those_of_relu_and_dead_units_pass_a_share(most: float) -> None:
    x = torch.tensor([-2.0, 0.0, 3.0, 7.0], requires_grad=True)
    leaky = LeakyGradient(most, slope=0.25)
    assert torch.equal(leaky(x), torch.clamp(x, 0, most))
    (gradient,) = torch.autograd.grad(leaky(x).sum(), x)
    assert gradient.tolist() == [0.25, 0.25, 1.0, 1.0 if most == torch.inf else 0.25]


class Reversed(nn.Module):
    """Lists its activations in another order than it runs them in."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.second, self.first = nn.ReLU(), nn.ReLU6(inplace=True), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.second(self.first(x)) - 1)
        return out


def test_the_last_activations_that_run_are_taken_in_a_copy() -> None:
    network, example = Reversed(), torch.linspace(-8, 8, 9)
    leaking = pass_through_dead(network, example)
    assert isinstance(leaking.last, LeakyGradient)
    assert isinstance(leaking.second, LeakyGradient)
    assert isinstance(leaking.first, nn.ReLU)
    assert leaking.second.most == 6.0
    assert isinstance(network.last, nn.ReLU), "the given network is not touched"
    assert torch.equal(leaking(example), network(example.clone()))


def test_what_explains_a_code_gets_true_gradients() -> None:
    leaking = pass_through_dead(nn.Sequential(nn.ReLU(), nn.ReLU()), torch.ones(1))
    x = torch.tensor([-1.0], requires_grad=True)
    with true_gradients(leaking):
        assert torch.autograd.grad(leaking(x), x)[0].item() == 0
    assert torch.autograd.grad(leaking(x), x)[0].item() > 0


def test_every_opened_network_wakes_dead_units() -> None:
    """In the embedded network: more of the last units move the image than are awake."""
    (opened,) = open_models(["lite0-caltech101:48"])
    leaking = [module for module in opened.model.modules() if isinstance(module, LeakyGradient)]
    assert [module.most for module in leaking] == [6.0, torch.inf]
    image = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(0)).requires_grad_()
    wide = opened.model.neck(opened.model.features(image))[0]
    (dead,) = torch.nonzero(wide == 0, as_tuple=True)
    assert len(dead) > 0
    assert float(torch.autograd.grad(wide[dead[0]], image, retain_graph=True)[0].abs().sum()) > 0
    with true_gradients(opened.model):
        still = opened.model.neck(opened.model.features(image))[0, dead[0]]
        assert float(torch.autograd.grad(still, image)[0].abs().sum()) == 0
