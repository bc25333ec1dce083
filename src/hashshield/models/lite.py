"""EfficientNet-Lite, written on torchvision's convolution block.

The Lite family is EfficientNet (Tan and Le 2019) without squeeze-and-excitation, with ReLU6, and with a stem and a
head that are not scaled. Its weights come from TensorFlow, whose "same" padding puts the odd pixel at the bottom
right; `SamePad` does likewise, or every strided layer would look one pixel off.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

__all__ = ["LITE_WIDTHS_DEPTHS", "LiteTrunk", "SamePad", "translate_weights"]

LITE_WIDTHS_DEPTHS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
"""Width and depth multipliers of the members used here."""

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


class SamePad(nn.Module):
    """Zero padding for a strided convolution such that the output is ceil(size / stride), extra at the far side."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H + h, W + w)."""
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


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

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
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class LiteTrunk(nn.Module):
    """EfficientNet-Lite up to its pooled features."""

    features = 1280

    def __init__(self, name: str) -> None:
        super().__init__()
        width, depth = LITE_WIDTHS_DEPTHS[name]
        self.stem = _conv(3, 32, 3, 2)
        blocks = []
        for index, (kernel, stride, expansion, channels_in, channels_out, repeats) in enumerate(_STAGES):
            first = channels_in if index == 0 else _rounded(channels_in * width)
            out = _rounded(channels_out * width)
            scaled = repeats if index in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)
            for step in range(scaled):
                blocks.append(_Block(kernel, stride if step == 0 else 1, expansion, first if step == 0 else out, out))
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(_rounded(320 * width), self.features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised -> (N, 1280)."""
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out.mean((2, 3))


def _rounded(channels: float, divisor: int = 8) -> int:
    """EfficientNet's channel rounding: nearest multiple of 8, never below 90%."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def translate_weights(state: dict[str, Tensor], trunk: LiteTrunk) -> dict[str, Tensor]:
    """Match the published weights to `trunk` by order: both list layers from stem to head, block by block.

    The classifier's two tensors are left out. Raises ValueError where shapes differ.
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
