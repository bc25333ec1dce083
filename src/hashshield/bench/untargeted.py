"""Untargeted changes: table 3 and figures 3 and 4 of the paper.

`bench untargeted` gives the MAP after a change, and after defences of a service against it. The paper's Tanh and RNM
aim at the code of a photo of another class, HAG at the complement of the photo's own code. SAAT's goal is the
complement of its mainstay code, searched here by `rnm`. HashStash has no bound on the change as published; it runs like
that, and within the bound of the others.

`bench traditional` compares traditional distortions with adversarial changes. Mosaic, brightness, transparency and
noise get, photo by photo, the strength that gives the PSNR stated in the paper. The adversarial photos are those of the
paper's method, with the targets of table 3, and those of `protect`, at several bounds.

`bench heatmap` is Grad-CAM (Selvaraju et al. 2017) of a hash code. It shows which places of a photo determine its code:
in the originals, after traditional distortions, and after `away`. Two numbers accompany the picture: the correlation of
a changed photo's heat with the original's, and how evenly it is spread, because the paper says that adversarial changes
disperse a network's attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hashshield.arrays import Bits, Pixels
from hashshield.attacks.presets import preset as preset_named
from hashshield.bench.config import BaselineConfig, HeatmapConfig, TraditionalConfig
from hashshield.bench.distortions import DISTORTIONS, PAPER_DEFENCES, distorted_queries
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of, with_interval
from hashshield.bench.experiment import (
    GIVEN_CODES,
    Experiment,
    anchor_codes,
    draw_targets,
    mainstay_codes,
    open_experiment,
)
from hashshield.bench.hashstash import hashstash_attack
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Trial, photo_sheet
from hashshield.bench.searches import Attack, attacks_of, progress_units, run_searches
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import true_gradients
from hashshield.models.load import OpenModel
from hashshield.transforms import pillow_view
from hashshield.types import GoalKind, Progress

__all__ = ["COLUMNS", "Heat", "evenness", "heat", "overlaid", "run_heatmap", "run_traditional", "run_untargeted"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "untargeted": (
        *("bits", "method", "photos", "map", "map_random", "map_complement", "map_predicted_flip", "map_real_valued"),
        *("map_jpeg_q75", "map_blur", "map_index", "median_psnr_db"),
    ),
    "traditional": (
        *("bits", "change", "photos", "median_psnr_db", "median_ssim", "map", "map_random", "map_reference"),
        *("map_unseen", "map_index"),
    ),
    "heatmap": ("bits", "change", "photos", "correlation_with_original", "spread", "median_psnr_db"),
}

_PAPER_METHOD = "rnm-paper"
_GOALS: tuple[GoalKind, ...] = ("away", "opposite", "decoy")
_NO_BOUND = 1.0
"""The tau at which any photo in [0, 1] is allowed."""
_POINT_METHODS = ("tanh", "tanh-dhta", "rnm-paper", "rnm-greedyhash")
"""Published methods that aim at the code of one photo of another class."""

_PLOTTED = 3
"""Number of photos in the picture."""
_WARM = np.array([(0, 0, 128), (0, 96, 255), (64, 255, 191), (255, 191, 0), (128, 0, 0)], np.float32)
"""RGB colours from cold to warm."""

Heat = NDArray[np.float32]
"""(h, w) heat in [0, 1]."""


def run_untargeted(config: BaselineConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method. Raise UsageError, CheckpointError, GoalError, UnknownNameError."""
    for name in config.presets:
        preset_named(name)
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    targets = draw_targets(experiment, anchor=config.anchor)
    names, count = ("noise", "rnm", "hag", *_POINT_METHODS), len(experiment.picked)
    noise, rnm, hag, *points = attacks_of(names, config.steps, config.limit)
    stash = {length: hashstash_attack(experiment, length, config.limit) for length in experiment.lengths}
    units = sum(progress_units([noise, rnm, hag, *points, each, each], count) for each in stash.values())
    progress.start(units + len(_GOALS) * len(config.presets) * count * len(experiment.lengths))
    searches = [*names, "hashstash", *config.presets]
    settings: dict[str, Any] = {"searches": searches, "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("untargeted", tau=config.tau, **settings) as result:
        for length in experiment.lengths:
            table = _UntargetedTable(experiment, length)

            def run(attack: Attack, wanted: Bits, length: int = length, tau: float = config.tau) -> list[Trial]:
                return run_searches(experiment, length, attack, wanted, tau=tau, progress=progress)

            result.rows.append(table.row("original", experiment.photos))
            result.rows.append(table.changed_row("noise", run(noise, table.original_bits)))
            for attack in points:
                wanted = targets.point(experiment.database, length)
                result.rows.append(table.changed_row(f"{attack.name}, P2P", run(attack, wanted)))
            result.rows.append(table.changed_row("hag", run(hag, -table.original_bits)))
            result.rows.append(table.changed_row("hashstash", run(stash[length], -table.original_bits)))
            unbounded = run(stash[length], -table.original_bits, tau=_NO_BOUND)
            result.rows.append(table.changed_row("hashstash, no bound", unbounded))
            result.rows.append(table.changed_row("saat's goal, rnm", run(rnm, -mainstay_codes(experiment, length))))
            for preset, goal in product(config.presets, _GOALS):
                trials = protect_queries(experiment, length, goal, tau=config.tau, preset=preset, progress=progress)
                result.rows.append(table.changed_row(f"protect, {preset}, {goal}", trials))
    return result.rows


class _UntargetedTable:
    """The rows of one code length."""

    def __init__(self, experiment: Experiment, length: int) -> None:
        self.experiment, self.length = experiment, length
        self.original_bits = experiment.original_bits(length)
        self.anchors = anchor_codes(experiment, length)

    def row(self, name: str, photos: Sequence[Pixels]) -> dict[str, Any]:
        """Return the MAP in every query mode and after the input defences of the paper's table."""
        opened, count = self.experiment.model(self.length), len(photos)
        codes = codes_of(opened, photos)
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.experiment.labels[:count])
        defended = {
            f"map_{defence}": evaluator.map(codes_of(opened, photos, change))
            for defence, change in PAPER_DEFENCES.items()
        }
        distances = (bits_of(codes) != self.original_bits[:count]).sum(1)
        return {
            "bits": self.length,
            "method": name,
            "photos": count,
            **evaluator.scores(codes),
            "map_reference": evaluator.map_of_bits(self.anchors[:count]),
            **evaluator.modes(codes),
            **defended,
            "mean_distance_from_original": round(float(distances.mean()), 2),
        }

    def changed_row(self, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return the row of these trials, with image quality."""
        return {**self.row(name, pixels_of(trials)), **image_quality(self.experiment, trials)}


def run_traditional(config: TraditionalConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and change: distortions, then the paper's method and `away` at every bound. Raise
    UsageError, CheckpointError, GoalError.
    """
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    photos = experiment.photos
    targets = draw_targets(experiment, anchor=config.anchor)
    (paper,) = attacks_of([_PAPER_METHOD], config.steps, config.limit)
    each = progress_units([paper], len(photos)) + len(photos)
    progress.start(len(photos) * len(DISTORTIONS) + each * len(config.taus) * len(experiment.lengths))
    distortions = distorted_queries(experiment, progress)
    decibels = {name: wanted for name, (_, wanted) in DISTORTIONS.items()}
    settings: dict[str, Any] = {
        "searches": [_PAPER_METHOD, "invisible"],
        "taus": list(config.taus),
        "limit": config.limit,
        "psnr_db": decibels,
    }
    with experiment.recording("traditional", **settings) as result:
        for length in experiment.lengths:
            opened = experiment.model(length)
            evaluator = RetrievalEvaluator(experiment, length, experiment.labels)
            ceiling = {"map_reference": evaluator.map_of_bits(anchor_codes(experiment, length))}
            codes = codes_of(opened, photos)
            scores = {**evaluator.scores(codes), **evaluator.modes(codes)}
            result.rows.append({"bits": length, "change": "original", "photos": len(photos), **scores, **ceiling})
            changes = dict(distortions)
            wanted = targets.point(experiment.database, length)
            for tau in config.taus:
                found = run_searches(experiment, length, paper, wanted, tau=tau, progress=progress)
                changes[f"{_PAPER_METHOD}, tau {tau}"] = found
            for tau in config.taus:
                changes[f"away, tau {tau}"] = protect_queries(experiment, length, "away", tau=tau, progress=progress)
            for name, trials in changes.items():
                codes = codes_of(opened, pixels_of(trials))
                scores = {**evaluator.scores(codes), **evaluator.modes(codes)}
                quality = image_quality(experiment, trials)
                result.rows.append({"bits": length, "change": name, **scores, **ceiling, **quality})
        cells = [(photos[0], "original")]
        for name, row in zip(changes, result.rows[-len(changes) :], strict=True):
            cells.append((changes[name][0].pixels, f"{name}\n{row['median_psnr_db']:.1f} dB, MAP {row['map']:.2f}"))
        photo_sheet(cells, result.plot, across=3)
    return result.rows


def run_heatmap(config: HeatmapConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and change. Raise UsageError, CheckpointError."""
    experiment = open_experiment(config, progress)
    photos = experiment.photos
    progress.start(len(photos) * (len(DISTORTIONS) + 2 * len(experiment.lengths)))
    distortions = distorted_queries(experiment, progress)
    with experiment.recording("heatmap", searches=["invisible"], tau=config.tau) as result:
        for length in experiment.lengths:
            opened = experiment.model(length)
            away = protect_queries(experiment, length, "away", tau=config.tau, progress=progress)
            originals = []
            for pixels in photos:
                originals.append(heat(opened, pixels))
                progress.done(None)
            even = round(float(np.mean([evenness(h) for h in originals])), 4)
            result.rows.append({"bits": length, "change": "original", "photos": len(photos), "spread": even})
            columns = [_column(opened, photos, originals, "original")]
            for name, trials in {**distortions, "away": away}.items():
                heats = [heat(opened, trial.pixels) for trial in trials]
                correlations = [_correlation(a, b) for a, b in zip(originals, heats, strict=True)]
                result.rows.append(
                    {
                        "bits": length,
                        "change": name,
                        **with_interval("correlation_with_original", np.array(correlations), seed=experiment.seed),
                        "spread": round(float(np.mean([evenness(h) for h in heats])), 4),
                        **image_quality(experiment, trials),
                    }
                )
                columns.append(_column(opened, [trial.pixels for trial in trials], heats, name))
        # Only for the last code length; one photo per row.
        cells = [cell for row in zip(*columns, strict=True) for cell in row]
        photo_sheet(cells, result.plot, across=len(columns))
    return result.rows


def _column(opened: OpenModel, photos: Sequence[Pixels], heats: Sequence[Heat], name: str) -> list[tuple[Pixels, str]]:
    """Return the first photos overlaid with their heat, with captions."""
    return [(overlaid(opened, p, h), name) for p, h in zip(photos[:_PLOTTED], heats, strict=False)]


def heat(opened: OpenModel, pixels: Pixels) -> Heat:
    """Return the heat of upright pixels in the `card` view: how much each place contributes to the signs of the code.

    It is the last activation with more than one position, weighted by the mean gradient of <code, sign(code)>. Raise
    UsageError for a network without such an activation.
    """
    image = pillow_view(pixels, opened.card.input)[None].to(opened.device).requires_grad_()
    with _LastActivation(opened.model.trunk) as last, true_gradients(opened.model):
        code = opened.model(image).code[0]
    if last.output is None:
        raise UsageError(f"{opened.name}: its layers keep no picture of more than one place; Grad-CAM needs one")
    (gradient,) = torch.autograd.grad((code * code.detach().sign()).sum(), last.output)
    weights = gradient.mean((2, 3), keepdim=True)
    positive = torch.relu((weights * last.output).sum(1))[0]
    # The lower bound avoids dividing by 0 if nothing is positive.
    found: Heat = (positive / positive.amax().clamp_min(1e-12)).detach().float().cpu().numpy()
    return found


def overlaid(opened: OpenModel, pixels: Pixels, warmth: Heat) -> Pixels:
    """Return the (crop, crop, 3) view of a photo, overlaid with its heat."""
    view = pillow_view(pixels, opened.card.input).permute(1, 2, 0).numpy() * 255
    size = view.shape[:2]
    wide = torch.nn.functional.interpolate(torch.from_numpy(warmth)[None, None], size, mode="bilinear")[0, 0].numpy()
    position = wide * (len(_WARM) - 1)
    below = np.clip(position.astype(int), 0, len(_WARM) - 2)
    share = (position - below)[..., None]
    colours = _WARM[below] * (1 - share) + _WARM[below + 1] * share
    mixed: Pixels = np.clip(0.5 * view + 0.5 * colours, 0, 255).astype(np.uint8)
    return mixed


def evenness(warmth: Heat) -> float:
    """Return the entropy of the heat as a share of the maximum: 0 if all heat is at one place, 1 if it is uniform."""
    total = float(warmth.sum())
    if total == 0:
        return 1.0
    shares = warmth.ravel() / total
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(warmth.size))


def _correlation(a: Heat, b: Heat) -> float:
    """Return Pearson's correlation of two heats of the same shape; 0 if one is constant."""
    one, other = a.ravel() - a.mean(), b.ravel() - b.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0


class _LastActivation:
    """Hook all modules of a network, and keep the last output with more than one position."""

    def __init__(self, network: nn.Module) -> None:
        self.output: Tensor | None = None
        self.network = network

    def __enter__(self) -> _LastActivation:
        self.hooks = [module.register_forward_hook(self._record) for module in self.network.modules()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _record(self, _module: nn.Module, _inputs: Sequence[Any], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            self.output = output
