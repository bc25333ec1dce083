"""A seeded hash network for 32 pixels, pictures for it, and cards; as a module because fixtures cannot be imported."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from hashshield.checkpoints.card import Card, InputSpec
from hashshield.checkpoints.file import write_checkpoint
from hashshield.models.hashing import HashNet

ARCH = "shufflenet_v2_x0_5"
CLASSES = ("cat", "dog", "sunflower", "teapot")
SIZE = InputSpec(36, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CARD = Card(
    name="tiny",
    arch=ARCH,
    bits=(16, 24),
    hidden=0,
    input=SIZE,
    classes=CLASSES,
    dataset="none",
    split={},
    recipe={},
    licence="Apache-2.0",
    attribution="",
)


def picture(height: int = 48, width: int = 64, *, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """(H, W, C): soft patches of colour, clear of black and white."""
    coarse = np.random.default_rng(seed).integers(40, 215, (5, 5, channels), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC))
        for c in range(channels)
    ]
    return np.clip(np.stack(planes, axis=2), 16, 239)


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """The pixels as a file; one channel becomes grey, four RGBA."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}), **options)
    return buffer.getvalue()


def write_tiny(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write the checkpoint; `changes` replace entries of its card."""
    weights, anchors = _tiny(seed)
    write_checkpoint(path, replace(CARD, **changes), weights, anchors)
    return path


def tiny_weights(seed: int = 0) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    """Copies of the weights and anchors `write_tiny` writes."""
    weights, anchors = _tiny(seed)
    return {k: v.clone() for k, v in weights.items()}, {k: v.clone() for k, v in anchors.items()}


@cache
def _tiny(seed: int) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    """Weights whose codes are centred and spread like a trained network's; untrained batch norms pass nothing on."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = HashNet(ARCH, CARD.bits, hidden_width=0, mean=SIZE.mean, std=SIZE.std)
    images = torch.stack(
        [torch.from_numpy(picture(32, 32, seed=1000 + i)).permute(2, 0, 1).float() / 255 for i in range(64)]
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()
        network.features(images)
        network.eval()
        features = network.features(images)
        for head in network.heads.values():
            assert isinstance(head, nn.Linear)
            code = head(features)
            head.weight /= code.std(0)[:, None]
            head.bias.copy_(-(features @ head.weight.T).mean(0))
    torch.random.set_rng_state(state)
    generator = torch.Generator().manual_seed(seed)
    anchors = {k: (torch.rand(len(CLASSES), k, generator=generator) < 0.5).to(torch.int8) * 2 - 1 for k in CARD.bits}
    weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    return weights, anchors
