"""The network with what training adds to it: dropout, standardised features, a classifier on each code."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from hashshield.models.hashing import HashNet
from hashshield.training.losses import pairwise_likelihood, quantisation
from hashshield.training.recipe import Loss

__all__ = ["Learner"]

_SMALLEST_STD = 1e-2


class Learner(nn.Module):
    """A `HashNet` that learns all its code lengths together."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, network: HashNet, classes: int, loss: Loss, *, several: bool) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.half_trunk = False
        """Whether the trunk computes in bfloat16."""
        self.several = several
        """Photos may have several labels. Told by the dataset: a batch that has none by chance is no other task."""
        self.dropout = nn.Dropout(0.0)
        self.classifiers = nn.ModuleDict({k: nn.Linear(int(k), classes) for k in network.heads})
        width = self._first_layers()[0].in_features
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1] -> (N, D) raw features, float32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.half_trunk):
            features = self.network.features(images)
        return features.float()

    def codes(self, features: Tensor) -> dict[int, Tensor]:
        """(N, D) raw features -> one (N, K) relaxed code per length."""
        wide = self.dropout(self.network.neck((features - self.feature_mean) / self.feature_std))
        return {int(k): head(wide) for k, head in self.network.heads.items()}

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(N, D) features and (N, L) label sets in {0, 1} -> scalar loss, the mean over code lengths."""
        similar = (labels @ labels.T) > 0
        total = features.new_zeros(())
        for bits, code in self.codes(features).items():
            total = total + pairwise_likelihood(code, code, similar, positive_share=self.loss.positive_share)
            total = total + self.loss.quantisation * quantisation(code)
            if self.loss.classification:
                scores = self.classifiers[str(bits)](torch.tanh(code))
                total = total + self.loss.classification * _classification(scores, labels, several=self.several)
        return total / len(self.network.heads)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Neck, code layers and classifiers."""
        yield from self.network.neck.parameters()
        yield from self.network.heads.parameters()
        yield from self.classifiers.parameters()

    @torch.no_grad()
    def standardise(self, features: Tensor, *, learnt: bool) -> None:
        """Learn from here on with zero mean and unit variance per feature, as measured on (N, D) `features`.

        Layers that have `learnt` something of raw features are moved along, so that codes stay what they are; new
        ones expect features of this scale as they are.
        """
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(_SMALLEST_STD))
        if learnt:
            for layer in self._first_layers():
                layer.bias.add_(layer.weight @ self.feature_mean)
                layer.weight *= self.feature_std

    @torch.no_grad()
    def fold_standardisation(self) -> None:
        """Move the standardisation into the first linear layers, so that the network reads raw features again."""
        for layer in self._first_layers():
            layer.weight /= self.feature_std
            layer.bias.sub_(layer.weight @ self.feature_mean)
        self.feature_mean.zero_()
        self.feature_std.fill_(1.0)

    def _first_layers(self) -> list[nn.Linear]:
        layers = [m for m in self.network.neck.modules() if isinstance(m, nn.Linear)]
        return layers[:1] or [m for m in self.network.heads.values() if isinstance(m, nn.Linear)]


def _classification(scores: Tensor, labels: Tensor, *, several: bool) -> Tensor:
    """Cross-entropy for one label a photo, binary cross-entropy for several (DSDH, Li et al. 2017)."""
    if several:
        return binary_cross_entropy_with_logits(scores, labels)
    return cross_entropy(scores, labels.argmax(1))
