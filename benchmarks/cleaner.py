"""Measure what a service regains that trains a network to clean protected photos: `python benchmarks/cleaner.py DATA`.

DATA is the dataset of the network's card. Two sets of its queries, with no photo in common, are protected with two
seeds, which stand for two keys. The service learns from pairs of protected and clean photos of the first set, and is
tested on the second. Its cleaner is a small U-Net that takes the network's view of a photo. It is trained to return the
clean view, compared by pixels and then by the network's features as well (Liao et al. 2018), and to leave clean views
alone.

The rows have the MAP of the test photos before and after cleaning, the share whose original is found first, and the
number of bits that stay changed. `auc` is how well the size of the cleaner's change tells protected photos from clean
ones.

Results go to `results/cleaner-PRESET.json` beside this file, the protected photos to `runs/`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, l1_loss, pixel_shuffle, pixel_unshuffle

from hashshield.arrays import Pixels, RelaxedCodes
from hashshield.bench.config import BenchConfig
from hashshield.bench.distortions import detection_auc
from hashshield.bench.evaluation import RetrievalEvaluator, pixels_of
from hashshield.bench.experiment import open_experiment
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import environment, replacing
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import true_gradients
from hashshield.models.load import OpenModel
from hashshield.transforms import pillow_view
from hashshield.types import NullProgress

HERE = Path(__file__).parent
_BATCH = 16
_RATE, _FINE_RATE = 2e-3, 5e-4
_WINDOW = 96
"""Side of the random windows in pixels."""
_FEATURE_WEIGHT = 2.0
"""Weight of the features' mean distance, relative to their mean; the pixels' mean distance in levels counts as 1."""
_CHANNELS = (32, 64, 64)


class Cleaner(nn.Module):
    """A U-Net that returns (N, 3, h, w) cleaned views of (N, 3, h, w) views in [0, 1]; h and w are multiples of 8.

    Its first level works on blocks of 2 x 2 pixels, which takes a third of the time of one on pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        one, two, three = _CHANNELS
        self.down = nn.ModuleList([_layers(12, one, one), _layers(one, two, two), _layers(two, three, three)])
        self.up = nn.ModuleList([_layers(three, two), _layers(two, one)])
        self.last = nn.Conv2d(one, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, views: Tensor) -> Tensor:
        """Return the cleaned views."""
        fine = self.down[0](pixel_unshuffle(views, 2))
        middle = self.down[1](avg_pool2d(fine, 2))
        x = self.down[2](avg_pool2d(middle, 2))
        for layers, beside in zip(self.up, (middle, fine), strict=True):
            x = layers(interpolate(x, scale_factor=2.0)) + beside
        return (views + pixel_shuffle(self.last(x), 2)).clamp(0, 1)


def _layers(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def trained(opened: OpenModel, changed: Tensor, clean: Tensor, *, steps: int, feature_steps: int, seed: int) -> Cleaner:
    """Return a cleaner trained on (N, 3, h, w) views of changed photos and of the same photos before the change.

    The first `steps` compare the pixels of random windows, `feature_steps` more compare whole views by features too. A
    tenth of the photos is held out; if they say that the second part made it worse, the cleaner of the first is kept.
    """
    torch.manual_seed(seed)
    held = max(1, len(clean) // 10)
    cleaner = Cleaner().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    _train(cleaner, (changed[held:], clean[held:]), steps, generator)
    before, state = _left(opened, cleaner, changed[:held], clean[:held]), copy.deepcopy(cleaner.state_dict())
    _train(cleaner, (changed[held:], clean[held:]), feature_steps, generator, opened)
    after = _left(opened, cleaner, changed[:held], clean[:held])
    print(f"distance of features, held out: {before:.3f} by pixels, {after:.3f} by features too", file=sys.stderr)
    if after > before:
        cleaner.load_state_dict(state)
    return cleaner.eval()


def _train(
    cleaner: Cleaner,
    pairs: tuple[Tensor, Tensor],
    steps: int,
    generator: torch.Generator,
    opened: OpenModel | None = None,
) -> None:
    """Take `steps` steps on pairs of changed and clean views; compare features as well if there is a network."""
    rate = _RATE if opened is None else _FINE_RATE
    cleaner.train()
    optimiser = torch.optim.AdamW(cleaner.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(1, steps))
    began, losses = time.monotonic(), []
    for step in range(steps):
        inputs, wanted = _drawn(*pairs, generator, windows=opened is None)
        found = cleaner(inputs.contiguous(memory_format=torch.channels_last))
        loss = l1_loss(found, wanted) * 255
        if opened is not None:
            loss = loss + _FEATURE_WEIGHT * _apart(opened, found, wanted)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 49:
            seconds = time.monotonic() - began
            print(f"step {step + 1}: loss {np.mean(losses[-50:]):.3f}, {seconds:.0f} s", file=sys.stderr)


@torch.no_grad()
def _left(opened: OpenModel, cleaner: Cleaner, changed: Tensor, clean: Tensor) -> float:
    """Return the distance of features that is left after cleaning."""
    return float(_apart(opened, cleaned(cleaner.eval(), changed), clean))


def _drawn(changed: Tensor, clean: Tensor, generator: torch.Generator, *, windows: bool) -> tuple[Tensor, Tensor]:
    """Draw a batch of inputs and what to return for them; a quarter is clean already, half of the batches mirrored."""
    rows = torch.randint(len(clean), (_BATCH,), generator=generator)
    untouched = torch.rand(_BATCH, 1, 1, 1, generator=generator) < 0.25
    inputs, wanted = torch.where(untouched, clean[rows], changed[rows]), clean[rows]
    if windows:
        side = min(_WINDOW, *clean.shape[2:])
        top, left = (int(torch.randint(size - side + 1, (1,), generator=generator)) for size in clean.shape[2:])
        inputs, wanted = (each[:, :, top : top + side, left : left + side] for each in (inputs, wanted))
    if torch.rand(1, generator=generator) < 0.5:
        inputs, wanted = inputs.flip(3), wanted.flip(3)
    return inputs, wanted


def _apart(opened: OpenModel, found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean distance of the network's features, relative to their mean magnitude."""
    with torch.no_grad():
        target = opened.model.features(wanted)
    with true_gradients(opened.model):
        return l1_loss(opened.model.features(found), target) / target.abs().mean()


def scores(evaluator: RetrievalEvaluator, name: str, views: Tensor) -> dict[str, Any]:
    """Return the row for views of the evaluator's photos: MAP, share found first, and bits changed."""
    experiment = evaluator.experiment
    (length,) = experiment.lengths
    codes = codes_of_views(experiment.model(length), views)
    changed = (bits_of(codes) != experiment.original_bits(length)).sum(1)
    return {
        "photos": name,
        "count": len(views),
        **evaluator.found(codes),
        "mean_bits_changed": round(float(changed.mean()), 2),
    }


@torch.inference_mode()
def codes_of_views(opened: OpenModel, views: Tensor) -> RelaxedCodes:
    """Return the (n, K) codes of (n, 3, h, w) views."""
    return np.concatenate([opened.model(part).code.numpy() for part in torch.split(views, _BATCH)])


def views_of(opened: OpenModel, photos: Sequence[Pixels]) -> Tensor:
    """Return the (n, 3, h, w) views of upright photos, in [0, 1], as the network sees them."""
    return torch.stack([pillow_view(pixels, opened.card.input) for pixels in photos])


@torch.inference_mode()
def cleaned(cleaner: Cleaner, views: Tensor) -> Tensor:
    """Return (n, 3, h, w) views after cleaning."""
    return torch.cat([cleaner(part) for part in torch.split(views, _BATCH)])


def measured(config: BenchConfig, preset: str, pairs: int, steps: int, feature_steps: int) -> dict[str, Any]:
    """Return the result: protect test photos and pairs, train a cleaner, and score it."""
    progress = _Counting()
    tests = open_experiment(config, progress)
    # Photos of the test may be drawn here as well; they are left out.
    wanted = min(pairs + config.queries, len(tests.split.queries))
    others = open_experiment(replace(config, queries=wanted, seed=config.seed + 1), progress)
    others = replace(others, picked=np.setdiff1d(others.picked, tests.picked)[:pairs])
    (length,) = tests.lengths
    changed, learnt = (
        protect_queries(each, length, "away", tau=config.tau, preset=preset, progress=progress)
        for each in (tests, others)
    )
    opened = tests.model(length)
    began = time.monotonic()
    cleaner = trained(
        opened,
        views_of(opened, pixels_of(learnt)),
        views_of(opened, others.photos),
        steps=steps,
        feature_steps=feature_steps,
        seed=config.seed,
    )
    seconds = time.monotonic() - began
    before, after = views_of(opened, tests.photos), views_of(opened, pixels_of(changed))
    before_cleaned, after_cleaned = cleaned(cleaner, before), cleaned(cleaner, after)
    evaluator = RetrievalEvaluator(tests, length, tests.labels)
    rows = [
        scores(evaluator, "original", before),
        scores(evaluator, "original, cleaned", before_cleaned),
        scores(evaluator, "protected", after),
        scores(evaluator, "protected, cleaned", after_cleaned),
    ]
    auc = detection_auc(_moved(before, before_cleaned), _moved(after, after_cleaned))
    settings = {"preset": preset, "tau": config.tau, "seed": config.seed, "pairs": len(learnt)}
    settings |= {"steps": steps, "feature_steps": feature_steps}
    return {
        "command": f"python benchmarks/cleaner.py DATA --preset {preset} --pairs {pairs} --queries {config.queries}",
        "environment": environment(searches=[preset], model=opened.name, **settings),
        "rows": rows,
        "auc": round(auc, 4),
        "training_seconds": round(seconds),
    }


def _moved(before: Tensor, after: Tensor) -> NDArray[np.float64]:
    """Return the (n,) mean absolute differences of two batches of views, in 8-bit levels."""
    found: NDArray[np.float64] = (255 * (after - before).abs().mean((1, 2, 3))).double().numpy()
    return found


class _Counting(NullProgress):
    """Print what is being protected, and the time after every tenth photo, to standard error."""

    def __init__(self) -> None:
        self.count, self.began = 0, time.monotonic()

    def photo(self, path: str) -> None:
        """Print what is being protected."""
        print(path, file=sys.stderr)

    def done(self, outcome: object) -> None:
        """Count a photo, or a batch that was hashed."""
        self.count += 1
        if self.count % 10 == 0:
            print(f"{self.count} after {time.monotonic() - self.began:.0f} s", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lite0-caltech101:48")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--feature-steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=HERE)
    asked = parser.parse_args()
    config = BenchConfig(
        models=(asked.model,), data=asked.data, output=asked.output, queries=asked.queries, device="cpu"
    )
    result = measured(config, asked.preset, asked.pairs, asked.steps, asked.feature_steps)
    with replacing(asked.output / "results" / f"cleaner-{asked.preset}.json") as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
