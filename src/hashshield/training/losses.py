"""The networks while they are trained: the losses they learn from, and the images made to be hard for them.

The losses of semantic codes are those of DPSH (Li et al. 2016) with the classification of DSDH (Li et al. 2017). A
network that is to find copies learns by contrast and entropy, as SSCD has them (Pizzi et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from hashshield.models.backbones import CopyTrunk
from hashshield.models.hashing import HashNet
from hashshield.training.recipe import ContrastSpec, LossWeights

__all__ = [
    "CopyLearner",
    "Learner",
    "adversarial_images",
    "contrast_loss",
    "entropy_loss",
    "iterative_quantisation",
    "pairwise_likelihood",
    "quantisation",
]

_SMALLEST_STD = 1e-2
"""Least standard deviation that features are divided by, so that constant ones are not blown up."""


class Learner(nn.Module):
    """A `HashNet` that learns all its code lengths together, with what only training needs.

    That is dropout, standardised features, and a classifier on each code.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, network: HashNet, classes: int, loss: LossWeights, *, multilabel: bool) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.half_trunk = False
        """True if the trunk computes in bfloat16."""
        self.multilabel = multilabel
        """True if photos of the dataset have several labels, even when those of a batch happen to have one each."""
        self.dropout = nn.Dropout(0.0)
        self.classifiers = nn.ModuleDict({k: nn.Linear(int(k), classes) for k in network.heads})
        width = self._first_layers()[0].in_features
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))

    def features(self, images: Tensor) -> Tensor:
        """Return the (N, D) raw features, float32, of (N, 3, H, W) images in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.half_trunk):
            features = self.network.features(images)
        return features.float()

    def codes(self, features: Tensor) -> dict[int, Tensor]:
        """Return one (N, K) relaxed code per code length, for (N, D) raw features."""
        wide = self.dropout(self.network.neck((features - self.feature_mean) / self.feature_std))
        return {int(k): head(wide) for k, head in self.network.heads.items()}

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss, a mean over code lengths, for (N, D) features and (N, L) label sets in {0, 1}."""
        similar = (labels @ labels.T) > 0
        total = features.new_zeros(())
        for bits, code in self.codes(features).items():
            total = total + pairwise_likelihood(code, code, similar, positive_share=self.loss.positive_share)
            total = total + self.loss.quantisation * quantisation(code)
            if self.loss.classification:
                scores = self.classifiers[str(bits)](torch.tanh(code))
                total = total + self.loss.classification * _classification(scores, labels, multilabel=self.multilabel)
        return total / len(self.network.heads)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of neck, code layers and classifiers."""
        yield from self.network.neck.parameters()
        yield from self.network.heads.parameters()
        yield from self.classifiers.parameters()

    @torch.no_grad()
    def standardise(self, features: Tensor, *, trained: bool) -> None:
        """Bring features to zero mean and unit variance from now on, as measured on (N, D) `features`.

        With `trained`, the layers that read them were trained on raw features and are adjusted, so that codes stay the
        same; untrained layers expect standardised features as they are.
        """
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(_SMALLEST_STD))
        if trained:
            for layer in self._first_layers():
                layer.bias.add_(layer.weight @ self.feature_mean)
                layer.weight *= self.feature_std

    @torch.no_grad()
    def fold_standardisation(self) -> None:
        """Fold the standardisation into the first linear layers, so that the network reads raw features again."""
        for layer in self._first_layers():
            layer.weight /= self.feature_std
            layer.bias.sub_(layer.weight @ self.feature_mean)
        self.feature_mean.zero_()
        self.feature_std.fill_(1.0)

    def _first_layers(self) -> list[nn.Linear]:
        """Return the linear layers that read the features: the neck's, or without a neck those of each code length."""
        layers = [m for m in self.network.neck.modules() if isinstance(m, nn.Linear)]
        return layers[:1] or [m for m in self.network.heads.values() if isinstance(m, nn.Linear)]


def pairwise_likelihood(code: Tensor, other: Tensor, similar: Tensor, *, positive_share: float | None = 0.5) -> Tensor:
    """Return the negative log-likelihood of pairwise labels (DPSH, Li et al. 2016, equation 2), a scalar.

    It is -(s * theta - log(1 + e^theta)) with theta = <u, v> / 2, as a mean over pairs, for relaxed codes (N, K) and
    (M, K) and `similar`, (N, M) bool. About 1% of all pairs are similar: `positive_share` weights them to make up that
    share of the loss; None leaves pairs unweighted.
    """
    theta = code @ other.T / 2
    loss = softplus(theta) - similar * theta
    if positive_share is None or not bool(similar.any()) or bool(similar.all()):
        return loss.mean()
    return positive_share * loss[similar].mean() + (1 - positive_share) * loss[~similar].mean()


def quantisation(code: Tensor) -> Tensor:
    """Return the mean squared distance of a relaxed code to its bits (DPSH, equation 4), a scalar."""
    return (code - torch.where(code > 0, 1.0, -1.0)).square().mean()


def _classification(scores: Tensor, labels: Tensor, *, multilabel: bool) -> Tensor:
    """Return the cross-entropy of (N, L) scores, or the binary one for several labels per photo (DSDH)."""
    if multilabel:
        return binary_cross_entropy_with_logits(scores, labels)
    return cross_entropy(scores, labels.argmax(1))


def adversarial_images(
    learner: Learner, images: Tensor, labels: Tensor, *, tau: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Return the (N, 3, H, W) images in [0, 1], changed by at most `tau` to make the learner's loss large.

    This is the inner step of adversarial training (Madry et al. 2018): projected gradient ascent with sign steps of
    2.5 tau / steps from a random start. Batch norms use their running statistics and do not learn from these passes.
    Modes and `requires_grad` are left as they were.
    """
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    trainable = [p for p in learner.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    # Clamped here and not in front of the network: a black or white pixel pushed out of range would have no gradient to
    # bring it back, and would never change.
    low, high = (images - tau).clamp(0, 1), (images + tau).clamp(0, 1)
    adversarial = (images + (2 * noise - 1) * tau).clamp(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = learner(learner.features(adversarial), labels)
        (uphill,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + 2.5 * tau / steps * uphill.sign(), low, high)
    for parameter in trainable:
        parameter.requires_grad_(True)
    for module, training in modes:
        module.training = training
    return adversarial


_NEAREST = 1e-4
"""Least squared distance in the entropy term, so that equal embeddings have a finite gradient."""


def contrast_loss(first: Tensor, second: Tensor, photos: Tensor, memory: Tensor, of: Tensor, *, heat: float) -> Tensor:
    """Return InfoNCE, a scalar, of (N, D) unit embeddings of two copies of N photos (SSCD, equation 2).

    `photos` (N,) are the numbers of the photos. `memory` (M, D) are embeddings of the photos `of` (M,), -1 for a free
    place; they repel, but those of the same photo. `heat` is the temperature.
    """
    embeddings = torch.cat([first, second])
    photo_ids = torch.cat([photos, photos])
    scores = embeddings @ torch.cat([embeddings, memory]).T / heat
    same = photo_ids[:, None] == torch.cat([photo_ids, of])[None]
    pair = torch.arange(len(embeddings), device=embeddings.device).roll(len(first))
    ignored = same | (torch.cat([photo_ids, of]) < 0)[None]
    ignored[torch.arange(len(embeddings)), pair] = False
    return cross_entropy(scores.masked_fill(ignored, -torch.inf), pair)


def entropy_loss(embeddings: Tensor, photo_ids: Tensor, memory: Tensor, of: Tensor) -> Tensor:
    """Return the mean negative logarithm of the distance to the nearest embedding of another photo, a scalar.

    That is the estimate of differential entropy of Kozachenko and Leonenko (SSCD, equation 4), which spreads the
    embeddings over the sphere. `embeddings` (N, D) are unit embeddings of the photos `photo_ids` (N,); the rest as in
    `contrast_loss`.
    """
    others, whose = torch.cat([embeddings, memory]), torch.cat([photo_ids, of])
    cosines = embeddings @ others.T
    ignored = (photo_ids[:, None] == whose[None]) | (whose < 0)[None]
    nearest = cosines.masked_fill(ignored, -1.0).amax(dim=1)
    return -0.5 * torch.log((2 - 2 * nearest).clamp_min(_NEAREST)).mean()


class CopyLearner(nn.Module):
    """A `HashNet` on a `CopyTrunk` that learns its embedding, with the memory of earlier batches."""

    memory: Tensor
    memory_of: Tensor
    memory_next: Tensor

    def __init__(self, network: HashNet, contrast: ContrastSpec) -> None:
        super().__init__()
        self.network, self.contrast = network, contrast
        assert isinstance(network.trunk, CopyTrunk)
        width = network.trunk.features
        self.register_buffer("memory", torch.zeros(contrast.memory, width))
        self.register_buffer("memory_of", torch.full((contrast.memory,), -1))
        self.register_buffer("memory_next", torch.zeros((), dtype=torch.long))

    def forward(self, first: Tensor, second: Tensor, photos: Tensor) -> Tensor:
        """Return the scalar loss for (N, D) unit embeddings of two copies of the N `photos`; then remember them."""
        contrast = contrast_loss(first, second, photos, self.memory, self.memory_of, heat=self.contrast.temperature)
        embeddings, photo_ids = torch.cat([first, second]), torch.cat([photos, photos])
        loss = contrast + self.contrast.entropy * entropy_loss(embeddings, photo_ids, self.memory, self.memory_of)
        self._remember(embeddings.detach(), photo_ids)
        return loss

    def _remember(self, embeddings: Tensor, photo_ids: Tensor) -> None:
        """Put embeddings in the place of the oldest."""
        size = len(self.memory)
        if size == 0:
            return
        embeddings, photo_ids = embeddings[-size:], photo_ids[-size:]
        places = (self.memory_next + torch.arange(len(embeddings), device=embeddings.device)) % size
        # New tensors, because those that the loss was computed with are still needed for its gradient.
        memory, of = self.memory.clone(), self.memory_of.clone()
        memory[places], of[places] = embeddings, photo_ids
        self.memory, self.memory_of = memory, of
        self.memory_next = (self.memory_next + len(embeddings)) % size


def iterative_quantisation(embeddings: Tensor, *, steps: int = 50) -> tuple[Tensor, Tensor]:
    """Return weight (D, D) and bias (D,) of a layer whose signs keep most of (N, D) embeddings.

    This is ITQ (Gong and Lazebnik 2011, section 2.2) with as many bits as dimensions, from the principal axes and the
    random rotation that torch's generator draws. The rotation is scaled so that codes have a mean magnitude of 1, as
    those of semantic networks have: the margins of a search are meant for that.
    """
    mean = embeddings.mean(0)
    centred = (embeddings - mean).double()
    _, axes = torch.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes
    rotation, _ = torch.linalg.qr(torch.randn(len(axes), len(axes), dtype=torch.float64))
    for _ in range(steps):
        turned = reduced @ rotation
        left, _, right = torch.linalg.svd(torch.where(turned > 0, 1.0, -1.0).double().T @ reduced)
        rotation = (left @ right).T
    scale = 1 / (reduced @ rotation).abs().mean()
    weight = (scale * axes @ rotation).T.float()
    return weight, -weight @ mean
