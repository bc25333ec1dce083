"""What every training has in common: what it tells of itself, and how its learning rate goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from hashshield.training.recipe import TrainingStage

__all__ = ["Epoch", "Reporter", "learning_rate_factor"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one epoch."""

    stage: int
    """Index of the stage, from 0."""
    epoch: int
    """Epochs finished so far, over all stages."""
    epochs: int
    """Epochs of all stages together."""
    loss: float
    map: float | None
    """MAP of queries against the database at the longest code, by the current features; None if not measured."""
    seconds: float


class Reporter(Protocol):
    """A listener to the progress of a training."""

    def note(self, text: str) -> None:
        """Report what is being done, in one line."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """Report a finished epoch."""
        ...


def learning_rate_factor(epoch: int, elapsed: float, stage: TrainingStage) -> float:
    """Return the factor on the learning rate: a cosine over the epochs from 1 to 0.01, climbing during the warm-up.

    `elapsed` counts epochs with the finished part of the current one.
    """
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * epoch / stage.epochs)) / 2
    return cosine * min(1.0, elapsed / stage.warmup) if stage.warmup else cosine
