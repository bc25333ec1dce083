"""The weights a training begins with: pretrained ones, another checkpoint's, or its own from before an interruption.

The state of an interrupted training is a safetensors file: no pickle here either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hashshield.errors import CheckpointError, UsageError
from hashshield.models.backbones import pretrained_state
from hashshield.models.hashing import HashNet
from hashshield.models.load import open_checkpoint
from hashshield.training.recipe import Recipe

__all__ = ["TrainingState", "load_initial_weights", "load_state", "save_state"]


def load_initial_weights(network: HashNet, recipe: Recipe) -> None:
    """Load the weights that the recipe names into `network`, if any.

    Raises UnknownNameError, UsageError, and CheckpointError if they are not available or do not fit.
    """
    if recipe.model.pretrained:
        network.trunk.load_state_dict(pretrained_state(recipe.model.arch, network.trunk))
    if recipe.model.start:
        reference, checkpoint = open_checkpoint(recipe.model.start)
        _load(network, checkpoint.weights, reference.path, "architecture, code lengths and hidden width")
    if recipe.model.trunk:
        _load_trunk(network.trunk, recipe)


def _load_trunk(trunk: nn.Module, recipe: Recipe) -> None:
    """Load the trunk of the checkpoint `model.trunk`. Raises UnknownNameError, CheckpointError, UsageError."""
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
    """Load weights of the file `path`; `same` names what must agree. Raises CheckpointError if they do not fit."""
    counters = {k: v for k, v in part.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        part.load_state_dict({**counters, **weights})
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its tensors do not fit the recipe ({str(error).splitlines()[-1].strip()[:200]}); start from a "
            f"checkpoint of the same {same}"
        ) from error


class TrainingState:
    """The position of an interrupted training, and the tensors of its optimiser."""

    def __init__(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        self.epoch = epoch
        """Epochs finished so far, over all stages."""
        self._tensors = tensors

    def restore(self, optimiser: torch.optim.Optimizer) -> None:
        """Give the optimiser the moments it had when the state was saved."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self._tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(
    path: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, seed: int, epoch: int
) -> None:
    """Write weights, optimiser and position; the old file is replaced only once the new one is complete."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in learner.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v).cpu().contiguous() for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    position = {"epoch": str(epoch), "seed": str(seed), "recipe": json.dumps(recipe.as_dict())}
    save_file(tensors, partial, metadata=position)
    partial.replace(path)


def load_state(path: Path, learner: nn.Module, recipe: Recipe, seed: int) -> TrainingState | None:
    """Load the state saved at `path` into `learner`; return None if there is none.

    Raises UsageError if it is damaged or belongs to another recipe or seed.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            position = handle.metadata()
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: cannot be resumed ({error}); remove it to start again") from error
    if position["recipe"] != json.dumps(recipe.as_dict()) or position["seed"] != str(seed):
        raise UsageError(f"{path}: belongs to another recipe or seed; remove it to start again")
    learner.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    moments = {k.removeprefix("optimiser."): v for k, v in tensors.items() if k.startswith("optimiser.")}
    return TrainingState(int(position["epoch"]), moments)
