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
    statistics meanwhile and do not learn from these passes. Modes and `requires_grad` are left as they were found.
    """
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    wanting = [p for p in learner.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    # Clamped here and not in front of the network: a black or white pixel pushed outside would have no gradient to
    # come back by, and would never be changed at all.
    lowest, highest = (images - tau).clamp(0, 1), (images + tau).clamp(0, 1)
    worst = (images + (2 * noise - 1) * tau).clamp(0, 1)
    for _ in range(steps):
        worst.requires_grad_(True)
        loss = learner(learner.features(worst), labels)
        (uphill,) = torch.autograd.grad(loss, worst)
        worst = torch.clamp(worst.detach() + 2.5 * tau / steps * uphill.sign(), lowest, highest)
    for parameter in wanting:
        parameter.requires_grad_(True)
    for module, training in modes:
        module.training = training
    return worst
