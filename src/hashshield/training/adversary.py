"""Adversarial training: every batch is first made as hard as a small change can make it (Madry et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from hashshield.training.learner import Learner

__all__ = ["worst_images"]


def worst_images(
    learner: Learner, images: Tensor, labels: Tensor, *, tau: float, steps: int, generator: torch.Generator
) -> Tensor:
    """(N, 3, H, W) images in [0, 1] -> the same, changed by at most `tau` so that the learner's loss is large.

    Projected gradient ascent with sign steps of 2.5 tau / steps from a random start; batch norms use their running
    statistics meanwhile and do not learn from these passes.
    """
    learning = learner.training
    learner.train(False)
    wanting = [p for p in learner.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    delta = (2 * noise - 1) * tau
    for _ in range(steps):
        delta.requires_grad_(True)
        loss = learner(learner.network.features((images + delta).clamp(0, 1)), labels)
        (uphill,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 2.5 * tau / steps * uphill.sign()).clamp(-tau, tau)
    for parameter in wanting:
        parameter.requires_grad_(True)
    learner.train(learning)
    return (images + delta).clamp(0, 1)
