"""Hash networks: backbone, neck, and one linear layer per code length (DPSH, Li et al. 2016), folded for use."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hashshield.models.backbones import backbone
from hashshield.models.leaky import pass_through_dead
from hashshield.types import Codes

__all__ = ["FrozenHash", "HashNet", "fold_batch_norms", "freeze"]

_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of `network` (in eval mode) whose batch norms are folded where one follows a convolution.

    "Follows" is read from the order in which a module lists its children, which need not be the order it runs them
    in; so the copy's output on `example` is compared, and a network it does not fit comes back as it was.
    """
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = list(parent.named_children())
        for (name, layer), (after, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                if layer.out_channels != norm.num_features:
                    continue
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, after, nn.Identity())
    before, now = network.eval()(example), folded(example)
    scale = before.abs().max().clamp_min(1e-6)
    return folded if bool((before - now).abs().max() <= _TOLERANCE * scale) else network


class HashNet(nn.Module):
    """One trunk with several code lengths, as it is trained and stored.

    `mean` and `std` are per channel in [0, 1] units. With `hidden_width` 0 the code layers read the features directly.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str,
        bits: Sequence[int],
        *,
        hidden_width: int = 0,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.trunk, width = backbone(arch)
        self.neck = nn.Sequential(nn.Linear(width, hidden_width), nn.ReLU()) if hidden_width else nn.Sequential()
        self.heads = nn.ModuleDict({str(k): nn.Linear(hidden_width or width, k) for k in bits})
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1] -> (N, D)."""
        out: Tensor = self.trunk((images - self.mean) / self.std)
        return out

    def codes(self, features: Tensor) -> dict[int, Tensor]:
        """(N, D) features -> one (N, K) relaxed code per length."""
        wide = self.neck(features)
        return {int(k): head(wide) for k, head in self.heads.items()}


class FrozenHash(nn.Module):
    """One code length of a trained network, made for taking gradients with respect to the image.

    Implements `HashModel`: weights are frozen, batch norms folded, memory laid out channels last. Gradients leak
    through the last dead units; `models.leaky` says why, and how to have them as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, neck: nn.Module, head: nn.Linear, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.trunk, self.neck, self.head = trunk, neck, head
        self.bits = head.out_features
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.eval()

    def forward(self, images: Tensor) -> Codes:
        """(N, 3, H, W) images in [0, 1] -> codes (N, K) and features (N, D)."""
        return self.codes(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1] -> (N, D)."""
        out: Tensor = self.trunk(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return out

    def codes(self, features: Tensor) -> Codes:
        """(N, D) -> codes (N, K), with the features they came from."""
        return Codes(self.head(self.neck(features)), features)


def freeze(network: HashNet, *, size: int) -> dict[int, FrozenHash]:
    """Make each code length of `network` ready for use, sharing one trunk; `size` is the input's side in pixels."""
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, 3, size, size), generator=generator)
    folded = nn.Sequential(fold_batch_norms(network.trunk, example), network.neck)
    trunk, neck = pass_through_dead(folded, example[:1]).children()
    heads = {int(k): head for k, head in network.heads.items() if isinstance(head, nn.Linear)}
    return {k: FrozenHash(trunk, neck, head, network.mean, network.std) for k, head in heads.items()}
