from __future__ import annotations

import pytest
import torch

from hashshield.models.hash_files import shared_codes
from hashshield.models.hashing import HashNet, freeze
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
