from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hashshield.models.backbones import backbone
from hashshield.models.hashing import fold_batch_norms


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
