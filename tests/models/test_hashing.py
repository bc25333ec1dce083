from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hashshield.models.backbones import backbone
from hashshield.models.hashing import (
    HashNet,
    LeakyGradient,
    fold_batch_norms,
    freeze,
    pass_through_dead,
    shared_codes,
    true_gradients,
)
from hashshield.models.load import open_models
from tiny_net import ARCH, SIZE


@pytest.fixture(scope="module")
def network() -> HashNet:
    torch.manual_seed(0)
    return HashNet(ARCH, (16, 24), hidden_width=20, mean=SIZE.mean, std=SIZE.std).eval()


def test_a_frozen_network_says_what_the_trained_one_says(network: HashNet) -> None:
    frozen = freeze(network, size=32)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network.codes(network.features(images))
        for bits, model in frozen.items():
            codes = model(images)
            assert codes.code.shape == (3, bits) == (3, model.bits)
            assert torch.allclose(codes.code, expected[bits], atol=1e-5)
            assert torch.allclose(codes.features, network.features(images), atol=1e-5)


def test_only_the_image_gets_a_gradient(network: HashNet) -> None:
    model = freeze(network, size=32)[16]
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(image).code.sum(), image)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()


def test_memory_is_laid_out_channels_last(network: HashNet) -> None:
    model = freeze(network, size=32)[16]
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convolutions
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    seen: list[bool] = []
    hook = convolutions[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    with torch.inference_mode():
        model(torch.rand(2, 3, 32, 32))
    hook.remove()
    assert seen == [True]


def test_normalisation_lives_inside(network: HashNet) -> None:
    model = freeze(network, size=32)[24]
    grey = torch.full((1, 3, 32, 32), 0.5)
    with torch.inference_mode():
        assert torch.allclose(model.features(grey), model.trunk(torch.zeros(1, 3, 32, 32)), atol=1e-6)


def test_code_lengths_share_one_trunk_that_runs_once(network: HashNet) -> None:
    frozen = freeze(network, size=32)
    models = [frozen[16], frozen[24]]
    assert models[0].trunk is models[1].trunk
    images = torch.rand(2, 3, 32, 32)
    runs: list[int] = []
    hook = models[0].trunk.register_forward_hook(lambda *_: runs.append(1))
    with torch.inference_mode():
        together = shared_codes(models, images)
        assert len(runs) == 1
        hook.remove()
        for model, codes in zip(models, together, strict=True):
            assert torch.equal(codes.code, model(images).code)


def stirred(network: nn.Module) -> nn.Module:
    """Batch norms with statistics and scales of their own: fresh ones are the identity and hide every mistake."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator) * 0.1
    return network.eval()


@pytest.mark.parametrize(
    ("name", "left", "size"),
    [
        ("efficientnet_lite0", 0, 64),
        ("resnet50", 0, 64),
        pytest.param("vgg11_bn", 0, 32, marks=pytest.mark.slow),
        # Each dense layer's first norm and each transition's come before their convolution, and one ends the network.
        ("densenet161", 82, 64),
        ("shufflenet_v2_x0_5", 0, 32),
    ],
)
def test_a_folded_network_is_the_same_function(name: str, left: int, size: int) -> None:
    torch.manual_seed(0)
    network = stirred(backbone(name)[0])
    generator = torch.Generator().manual_seed(2)
    example, other = torch.randn(2, 2, 3, size, size, generator=generator)
    folded = fold_batch_norms(network, example)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == left
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) > left, "the given network is not touched"
    with torch.inference_mode():
        expected = network(other)
        assert torch.allclose(folded(other), expected, atol=1e-4 * float(expected.abs().max()))


class Misleading(nn.Module):
    """Lists a norm after a convolution and runs it before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.norm(x) + x)
        return out


def test_a_network_it_does_not_fit_comes_back_as_it_was() -> None:
    network = stirred(Misleading())
    assert fold_batch_norms(network, torch.randn(2, 3, 8, 8)) is network


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
