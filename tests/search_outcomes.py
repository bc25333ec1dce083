"""Small seeded searches, whose results are recorded in `tests/data/search-outcomes.json`.

After SEARCH_VERSION was raised, `python tests/search_outcomes.py` records them again.

The searches of methods and presets run in double precision on a smooth network of a few thousand seeded weights: there
the rounding of another processor is lost far below the tolerances of the test, while a changed constant is not. The
protected photos go through the pipeline, in single precision, and are compared more coarsely.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from hashshield.attacks import SEARCH_VERSION
from hashshield.attacks.grid import make_grid
from hashshield.attacks.masking import perceptual_mask
from hashshield.attacks.methods import METHODS, Method, method
from hashshield.attacks.objectives import Objective
from hashshield.attacks.presets import PRESETS, Preset, preset
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchTask
from hashshield.models.hashing import FrozenHash
from hashshield.models.load import OpenModel
from hashshield.pipeline.targets import goal_for
from hashshield.pipeline.work import ProtectContext, Source, work
from hashshield.storage import digest
from hashshield.transforms import CARD as VIEW
from hashshield.types import Codes, GoalKind, GoalSpec, View
from tiny_net import CARD, encoded, picture

FILE = Path(__file__).parent / "data" / "search-outcomes.json"
BITS, SIDE, WIDTH = 16, 6, 24
STEPS, TAU, PHOTOS = 20, 0.06, 2
PROTECTED: tuple[tuple[str, GoalKind, str], ...] = (
    ("invisible", "away", "PNG"),
    ("balanced", "away", "JPEG"),
    ("strong", "opposite", "PNG"),
)
"""Preset, goal and format."""

Outcome = dict[str, Any]


class Trunk(nn.Module):
    """Means over a 6 x 6 grid, mixed and bent once by a sine, which never saturates: (N, 3, H, W) -> (N, 24)."""

    def __init__(self, mixing: Tensor) -> None:
        super().__init__()
        self.mixing = nn.Parameter(mixing)

    def forward(self, images: Tensor) -> Tensor:
        return torch.sin(adaptive_avg_pool2d(images, SIDE).flatten(1) @ self.mixing)


@dataclass(frozen=True, slots=True)
class WholePicture:
    """The network behind no view, because views resample in single precision."""

    opened: OpenModel

    @property
    def side(self) -> int:
        return self.opened.card.input.resize

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        codes: Codes = self.opened.model(torch.cat(list(images)))
        return codes


class Features(NamedTuple):
    pooled: Tensor
    middle: Tensor
    code: Tensor


@dataclass(frozen=True, slots=True)
class SmoothSurrogate:
    """The same network as a surrogate; its middle layer is the means that it mixes."""

    opened: OpenModel

    def features(self, images: Sequence[Tensor], _view: str, windows: Sequence[View] = (), /) -> Features:
        inputs = torch.cat(list(images))
        if windows:
            inputs = torch.cat([window(one[None]) for window, one in zip(windows, inputs, strict=True)])
        codes = self.opened.model(inputs)
        return Features(codes.features, adaptive_avg_pool2d(inputs, SIDE), codes.code)


def smooth_network() -> OpenModel:
    """Return the network of these searches, in double precision."""
    generator = np.random.default_rng(2024)
    head = nn.Linear(WIDTH, BITS, bias=False, dtype=torch.float64)
    head.weight.data = torch.from_numpy(generator.standard_normal((BITS, WIDTH)) * 0.5)
    trunk = Trunk(torch.from_numpy(generator.standard_normal((3 * SIDE**2, WIDTH)) * 0.5))
    mean, std = (torch.full((1, 3, 1, 1), value, dtype=torch.float64) for value in (0.5, 0.25))
    network = FrozenHash(trunk, nn.Sequential(), head, mean, std)
    return OpenModel(f"smooth:{BITS}", network, replace(CARD, name="smooth", bits=(BITS,)), None)


def outcomes() -> dict[str, Outcome]:
    """Return what the searches come to now, by name."""
    opened = smooth_network()
    found: dict[str, Outcome] = {}
    for name, chosen in METHODS.items():
        if not chosen.noise:
            found.update(_searched(opened, f"method {name}", chosen))
    for name, prepared in PRESETS.items():
        found.update(_searched(opened, f"preset {name}", method(prepared.search), prepared))
    strong = preset("strong")
    found.update(_searched(opened, "features moved", method(strong.search), strong, [SmoothSurrogate(opened)]))
    opened.model.float()
    for name, goal, kind in PROTECTED:
        found[f"protected, {name}, {goal}, {kind}"] = _protected(opened, name, goal, kind)
    return found


def _searched(
    opened: OpenModel,
    name: str,
    chosen: Method,
    prepared: Preset | None = None,
    surrogates: Sequence[SmoothSurrogate] = (),
) -> Iterator[tuple[str, Outcome]]:
    """Turn half of the bits of each photo, with its features and own bits in the aim; through a preset's transforms."""
    view = WholePicture(opened)
    photos = [_photo(opened, key, chosen, prepared) for key in range(PHOTOS)]
    for found in search(photos, [view], replace(chosen, steps=STEPS), TAU, Execution(PHOTOS), surrogates):
        with torch.inference_mode():
            code = opened.model(photos[int(str(found.key))].grid.changed(found.delta)).code[0]
        yield (
            f"{name}, photo {found.key}",
            {
                "steps": found.steps,
                "reached": found.reached,
                "first_reached": found.first_reached,
                "norm": round(float(found.delta.norm()), 6),
                "last_norm": round(float(found.last.norm()), 6),
                "code": [round(value, 5) for value in code.tolist()],
            },
        )


def _photo(opened: OpenModel, key: int, chosen: Method, prepared: Preset | None) -> SearchTask:
    pixels = picture(44, 56, seed=key)
    grid = make_grid(pixels)
    grid = replace(grid, image=grid.image.double())
    with torch.inference_mode():
        codes = opened.model(grid.image[None])
    original_bits, features = codes.code[0].clone().sign(), codes.features[0].clone()
    wanted = original_bits.clone()
    wanted[torch.from_numpy(np.random.default_rng(key).permutation(BITS)[: BITS // 2])] *= -1
    if prepared is None:
        return SearchTask(grid, [Objective(wanted, features, original_bits, chosen.min_margin)], key=key)
    transform = None
    if prepared.transforms is not None:
        draw, generator = prepared.transforms.draw, np.random.default_rng(100 + key)

        def transform(look: int) -> View | None:
            view = draw(look, generator, 1.0)
            # Resampling knows single precision only.
            return None if view is None else lambda images: view(images.float()).double()

    min_margin = prepared.margins.of(0, sees_writing=True, lossless=True, method_margin=chosen.min_margin)
    return SearchTask(
        grid,
        [Objective(wanted, features, original_bits, min_margin, prepared.allowed_misses)],
        key=key,
        feature_seed=key,
        code_looks={(0, VIEW): 0},
        transform=transform,
        cycle=1 if prepared.transforms is None else prepared.transforms.cycle,
        masking=None
        if prepared.spectra is None
        else perceptual_mask(pixels, *grid.image.shape[1:], prepared.spectra.lossless),
    )


def _protected(opened: OpenModel, name: str, goal: GoalKind, kind: str) -> Outcome:
    """Protect a photo as `protect` does: written, read again, and tried again where it fell short."""
    data = encoded(picture(56, 72, seed=9), kind)
    context = ProtectContext(
        models=(opened,),
        preset=preset(name),
        method=replace(method(preset(name).search), steps=STEPS),
        tau=TAU,
        execution=Execution(1),
        goal=goal_for(GoalSpec(goal), [opened]),
        secret=b"outcomes",
        tolerance=None,
        jobs=1,
    )
    (result,) = work([Source("photo", data, digest(data))], context)
    assert result.receipt is not None
    return {
        "tries": -(-result.steps // STEPS),
        "passed": result.receipt.passed,
        "psnr_db": round(result.receipt.psnr_db, 2),
        "distance_from_original": [row.distance_from_original for row in result.receipt.codes],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({"version": SEARCH_VERSION, "outcomes": outcomes()}) + "\n", encoding="utf-8")
