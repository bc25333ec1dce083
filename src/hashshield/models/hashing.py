"""Hash networks: backbone, neck, and one linear layer per code length (DPSH, Li et al. 2016), folded for use.

Gradients pass through dead units: ReLU forwards, leaky ReLU backwards, in the last activations. A unit at zero passes
no gradient. Where a photo's kind keeps most of the last units at zero, those that the wanted code needs cannot be
woken, and the search sees nothing of them (measured: ADR 008). Codes are not changed by it; the idea is that of
LinBP (Guo, Li and Chen 2020), which leaves ReLU out of the last layers' backward pass altogether.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hashshield.models.backbones import backbone
from hashshield.types import Codes

__all__ = [
    "FrozenHash",
    "HashNet",
    "LeakyGradient",
    "fold_batch_norms",
    "freeze",
    "pass_through_dead",
    "true_gradients",
]

_SLOPE = 0.2
"""Share of the gradient that a dead unit passes on (measured: at 0.4 no better, and at 0.2 in all layers worse)."""
_LAST = 2
"""Activations that pass it, counted from the code (measured: one is not enough, four are no better)."""
_TOLERANCE = 1e-3


class _Clamp(torch.autograd.Function):
    """Clamp to [0, most] forwards; backwards a share of the gradient also where it is clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: float, slope: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < most))
        ctx.slope = slope
        return x.clamp(0, most)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (alive,) = ctx.saved_tensors
        (gradient,) = gradients
        return torch.where(alive, gradient, ctx.slope * gradient), None, None


class LeakyGradient(nn.Module):
    """ReLU, or with `most` 6 ReLU6, whose dead units pass on `slope` of the gradient."""

    def __init__(self, most: float = torch.inf, slope: float = _SLOPE) -> None:
        super().__init__()
        self.most, self.slope = most, slope

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, as ReLU."""
        out: Tensor = _Clamp.apply(x, self.most, self.slope)
        return out


def pass_through_dead(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of `network` whose last ReLU or ReLU6 modules, in the order `example` meets them, leak backwards.

    A network that has none, or calls them as functions, comes back as a plain copy.
    """
    copied = copy.deepcopy(network)
    names: dict[nn.Module, str] = {
        module: name for name, module in copied.named_modules() if isinstance(module, nn.ReLU | nn.ReLU6)
    }
    met: dict[nn.Module, None] = {}

    def meet(module: nn.Module, _inputs: object, _output: object) -> None:
        met.pop(module, None)
        met[module] = None

    hooks = [module.register_forward_hook(meet) for module in names]
    with torch.inference_mode():
        copied(example)
    for hook in hooks:
        hook.remove()
    for module in list(met)[-_LAST:]:
        parent, _, attribute = names[module].rpartition(".")
        leaky = LeakyGradient(6.0 if isinstance(module, nn.ReLU6) else torch.inf)
        setattr(copied.get_submodule(parent), attribute, leaky)
    return copied


@contextmanager
def true_gradients(network: nn.Module) -> Iterator[None]:
    """Within, dead units of `network` pass nothing, for what explains a code and not what changes it."""
    leaking = [module for module in network.modules() if isinstance(module, LeakyGradient)]
    slopes = [module.slope for module in leaking]
    for module in leaking:
        module.slope = 0.0
    try:
        yield
    finally:
        for module, slope in zip(leaking, slopes, strict=True):
            module.slope = slope


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
    through the last dead units; `models.hashing` says why, and how to have them as they are.
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
