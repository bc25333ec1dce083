"""A tiny copy detector, trained in seconds from a seed; as a module because fixtures cannot be imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.checkpoints.card import InputSpec
from hashshield.training.recipe import ContrastSpec, DataSpec, ModelSpec, Recipe, TrainingStage
from tiny_net import encoded

HEADS = TrainingStage("heads", epochs=2, batch=12, learning_rate=1e-3)
TAIL = TrainingStage("tail", epochs=2, batch=12, learning_rate=1e-4, trunk_learning_rate=1e-3, warmup=0.5)
RECIPE = Recipe(
    name="tiny-copies",
    licence="CC0-1.0",
    attribution="made for this test",
    data=DataSpec("folder", queries=20),
    model=ModelSpec("efficientnet_lite0.copies", (256,)),
    input=InputSpec(48, 48, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), squash=True),
    stages=(HEADS, TAIL),
    contrast=ContrastSpec(side=32, memory=40, edited_copies=3, entropy=2.0, first_block=11),
)


def scene(seed: int, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """(H, W, 3): shapes and stripes of random colours, of which no two seeds share much."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    for _ in range(6):
        top, left = int(random.integers(height - 12)), int(random.integers(width - 12))
        tall, wide = random.integers(6, 30, 2)
        pixels[top : top + tall, left : left + wide] = random.integers(0, 256, 3)
    return pixels


def write_scenes(root: Path, count: int = 48) -> Path:
    """Write `count` scenes in two folders, as a dataset of two classes."""
    for seed in range(count):
        folder = root / ("one" if seed % 2 else "two")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed:03}.png").write_bytes(encoded(scene(seed)))
    return root


class Nobody:
    """A reporter of training that nobody listens to."""

    def note(self, text: str) -> None: ...

    def epoch(self, epoch: object) -> None: ...


def write_detector(folder: Path) -> Path:
    """Train the tiny detector's embedding on scenes and write it into `folder`."""
    from dataclasses import replace

    from hashshield.training.trainer import train

    output = folder / "tiny-copies.safetensors"
    scenes = write_scenes(folder / "scenes")
    train(replace(RECIPE, stages=(HEADS,)), data=scenes, output=output, device="cpu", reporter=Nobody())
    return output
