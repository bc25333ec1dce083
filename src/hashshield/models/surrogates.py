"""Surrogates: networks whose features a search moves for the sake of networks that nobody named.

What is alike in networks of different kinds are features, not codes, and those of a middle layer as much as the last.
Gradients through residual blocks are halved, so that more of them comes through the skip connections, which transfers
better (SGM; Wu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hashshield.models.backbones import InvertedResidual, LiteTrunk
from hashshield.models.load import OpenModel, viewed
from hashshield.types import View

__all__ = ["Surrogate", "SurrogateFeatures", "surrogates_among"]

_RESIDUAL_GRADIENT = 0.5
"""Share of the gradient that each residual branch passes on (measured: .2 and 1 are worse, ADR 015)."""


class SurrogateFeatures(NamedTuple):
    """What a surrogate makes of a batch."""

    pooled: Tensor
    """(N, D): averaged over the picture."""
    middle: Tensor
    """(N, C, h, w): of the middle layer."""
    code: Tensor
    """(N, K): its relaxed code."""


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """An EfficientNet-Lite as a source of features with gradients to the picture."""

    opened: OpenModel

    @property
    def name(self) -> str:
        """The network's `checkpoint:bits`."""
        return self.opened.name

    def features(self, images: Sequence[Tensor], view: str, windows: Sequence[View] = (), /) -> SurrogateFeatures:
        """Return the features of (1, 3, h, w) images in [0, 1], seen through `view`, each then through its window."""
        inputs = viewed(images, self.opened.card.input, view)
        if windows:
            inputs = torch.cat([window(one[None]) for window, one in zip(windows, inputs, strict=True)])
        return self._features(inputs)

    def _features(self, inputs: Tensor) -> SurrogateFeatures:
        model = self.opened.model
        trunk = model.trunk
        assert isinstance(trunk, LiteTrunk)
        x = trunk.stem(((inputs - model.mean) / model.std).contiguous(memory_format=torch.channels_last))
        middle = x
        for index, block in enumerate(trunk.blocks):
            assert isinstance(block, InvertedResidual)
            out = block.layers(x)
            x = x + _damped(out) if block.residual else out
            if index == trunk.middle:
                middle = x
        pooled = trunk.head(x).mean((2, 3)).float()
        return SurrogateFeatures(pooled, middle.float(), model.codes(pooled).code)


def _damped(out: Tensor) -> Tensor:
    """Return the same values with a smaller gradient."""
    return _RESIDUAL_GRADIENT * out + (1 - _RESIDUAL_GRADIENT) * out.detach()


def surrogates_among(models: Sequence[OpenModel]) -> tuple[Surrogate, ...]:
    """Return those of the networks that can be surrogates, each trunk once."""
    trunks: dict[int, OpenModel] = {}
    for opened in models:
        if isinstance(opened.model.trunk, LiteTrunk):
            trunks.setdefault(id(opened.model.trunk), opened)
    return tuple(Surrogate(opened) for opened in trunks.values())
