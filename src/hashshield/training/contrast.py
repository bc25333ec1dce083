"""The losses by which a network learns to find copies: contrast and entropy, as SSCD has them (Pizzi et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hashshield.models.backbones import CopyTrunk
from hashshield.models.hashing import HashNet
from hashshield.training.recipe import ContrastSpec

__all__ = ["CopyLearner", "contrast_loss", "entropy_loss", "iterative_quantisation"]

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
