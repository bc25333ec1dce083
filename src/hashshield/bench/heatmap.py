"""Grad-CAM (Selvaraju et al. 2017) of a hash code, and figure 4 of the paper.

`bench heatmap` shows where codes come from: in the originals, after what people did to photos before, and after `away`.
Two figures go with the picture: how the heat of a changed photo correlates with that of the original, and how evenly it
is spread, because the paper says that adversarial changes disperse what a network attends to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hashshield.arrays import Pixels
from hashshield.bench.config import HeatmapConfig
from hashshield.bench.distortions import DISTORTIONS, distorted_queries
from hashshield.bench.evaluation import image_quality, with_interval
from hashshield.bench.experiment import open_experiment
from hashshield.bench.plots import photo_sheet
from hashshield.bench.protecting import protect_queries
from hashshield.errors import UsageError
from hashshield.models.hashing import true_gradients
from hashshield.models.load import OpenModel
from hashshield.transforms import pillow_view
from hashshield.types import Progress

__all__ = ["COLUMNS", "Heat", "evenness", "heat", "overlaid", "run_heatmap"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "heatmap": ("bits", "change", "photos", "correlation_with_original", "spread", "median_psnr_db"),
}

_PLOTTED = 3
"""Photos in the picture."""
_WARM = np.array([(0, 0, 128), (0, 96, 255), (64, 255, 191), (255, 191, 0), (128, 0, 0)], np.float32)
"""RGB colours from cold to warm."""

Heat = NDArray[np.float32]
"""(h, w) heat in [0, 1]."""


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
        # Of the last length only; one photo per row.
        cells = [cell for row in zip(*columns, strict=True) for cell in row]
        photo_sheet(cells, result.plot, across=len(columns))
    return result.rows


def _column(opened: OpenModel, photos: Sequence[Pixels], heats: Sequence[Heat], name: str) -> list[tuple[Pixels, str]]:
    """Return the first photos under their heat."""
    return [(overlaid(opened, p, h), name) for p, h in zip(photos[:_PLOTTED], heats, strict=False)]


def heat(opened: OpenModel, pixels: Pixels) -> Heat:
    """Return the heat of upright pixels under the card's view: where each bit's sign comes from.

    It is the last activation with more than one place, weighted by the mean gradient of <code, sign(code)>. Raise
    UsageError for a network that has none.
    """
    image = pillow_view(pixels, opened.card.input)[None].to(opened.device).requires_grad_()
    with _LastActivation(opened.model.trunk) as last, true_gradients(opened.model):
        code = opened.model(image).code[0]
    if last.output is None:
        raise UsageError(f"{opened.name}: its layers keep no picture of more than one place; Grad-CAM needs one")
    (gradient,) = torch.autograd.grad((code * code.detach().sign()).sum(), last.output)
    weights = gradient.mean((2, 3), keepdim=True)
    positive = torch.relu((weights * last.output).sum(1))[0]
    # A map without any heat stays cold.
    found: Heat = (positive / positive.amax().clamp_min(1e-12)).detach().float().cpu().numpy()
    return found


def overlaid(opened: OpenModel, pixels: Pixels, warmth: Heat) -> Pixels:
    """Return the (crop, crop, 3) view of a photo under its heat."""
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
    """Return the entropy of the heat as a share of the largest possible: 0 if all is in one place, 1 if it is even."""
    total = float(warmth.sum())
    if total == 0:
        return 1.0
    shares = warmth.ravel() / total
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(warmth.size))


def _correlation(a: Heat, b: Heat) -> float:
    """Return Pearson's correlation of two heats of one shape; 0 where one is constant."""
    one, other = a.ravel() - a.mean(), b.ravel() - b.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0


class _LastActivation:
    """Hooks all modules of a network and keeps the last output of several places."""

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
