"""Where a training starts: ImageNet weights, another checkpoint, or the trunk of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hashshield.errors import CheckpointError, UsageError
from hashshield.models.backbones import pretrained_state
from hashshield.models.hashing import HashNet
from hashshield.models.load import open_checkpoint
from hashshield.training.recipe import Recipe

__all__ = ["give_start"]


def give_start(network: HashNet, recipe: Recipe) -> None:
    """Load the weights that the recipe names into `network`, if any.

    Raises UnknownNameError, UsageError, and CheckpointError where they cannot be had or do not fit.
    """
    if recipe.model.pretrained:
        network.trunk.load_state_dict(pretrained_state(recipe.model.arch, network.trunk))
    if recipe.model.start:
        reference, checkpoint = open_checkpoint(recipe.model.start)
        _load(network, checkpoint.weights, reference.path, "architecture, code lengths and hidden width")
    if recipe.model.trunk:
        _trunk_from(network.trunk, recipe)


def _trunk_from(trunk: nn.Module, recipe: Recipe) -> None:
    """Load the trunk of another checkpoint. Raises UnknownNameError, CheckpointError, UsageError."""
    reference, checkpoint = open_checkpoint(recipe.model.trunk)
    theirs, ours = checkpoint.card.input, recipe.input
    if (theirs.mean, theirs.std) != (ours.mean, ours.std):
        raise UsageError(
            f"{reference.path}: its trunk reads images with mean {theirs.mean} and std {theirs.std}, the recipe says "
            f"{ours.mean} and {ours.std}; take over the former"
        )
    prefix = "trunk."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint.weights.items() if k.startswith(prefix)}
    _load(trunk, weights, reference.path, "architecture")


def _load(part: nn.Module, weights: Mapping[str, Tensor], path: Path, same: str) -> None:
    counters = {k: v for k, v in part.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        part.load_state_dict({**counters, **weights})
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its tensors do not fit the recipe ({str(error).splitlines()[-1].strip()[:200]}); start from a "
            f"checkpoint of the same {same}"
        ) from error
