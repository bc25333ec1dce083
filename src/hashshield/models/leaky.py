"""Gradients through dead units: ReLU forwards, leaky ReLU backwards, in the last activations of a network.

A unit at zero passes no gradient. Where a photo's kind keeps most of the last units at zero, those that the wanted code
needs cannot be woken, and the search sees nothing of them (measured: ADR 008). Codes are not changed by it; the idea is
that of LinBP (Guo, Li and Chen 2020), which leaves ReLU out of the last layers' backward pass altogether.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LeakyGradient", "pass_through_dead", "true_gradients"]

_SLOPE = 0.2
"""Share of the gradient that a dead unit passes on (measured: at 0.4 no better, and at 0.2 in all layers worse)."""
_LAST = 2
"""Activations that pass it, counted from the code (measured: one is not enough, four are no better)."""


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
