"""The state of an interrupted training, in safetensors: no pickle here either."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hashshield.errors import UsageError
from hashshield.training.recipe import Recipe

__all__ = ["Resumed", "load_state", "save_state"]


class Resumed:
    """How far a training got, and its optimiser's tensors."""

    def __init__(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        self.epoch = epoch
        """Finished epochs over all stages."""
        self._tensors = tensors

    def restore(self, optimiser: torch.optim.Optimizer) -> None:
        """Give the optimiser the moments it had."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self._tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(
    path: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, seed: int, epoch: int
) -> None:
    """Write weights, optimiser and position; the old state stays until the new one is complete."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in learner.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v).cpu().contiguous() for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    position = {"epoch": str(epoch), "seed": str(seed), "recipe": json.dumps(recipe.as_dict())}
    save_file(tensors, partial, metadata=position)
    partial.replace(path)


def load_state(path: Path, learner: nn.Module, recipe: Recipe, seed: int) -> Resumed | None:
    """Load what `save_state` wrote into `learner`; None when there is none. Raises UsageError for another training."""
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
    return Resumed(int(position["epoch"]), moments)
