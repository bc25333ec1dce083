"""Measure how well `metrics.visibility` predicts butteraugli, and fit its constants.

    python benchmarks/visibility.py fit PHOTOS/ [PROTECTED/ ...] > constants.txt
    python benchmarks/visibility.py judge PHOTOS/ [PROTECTED/ ...] > benchmarks/results/visibility.json

PROTECTED are folders with changed photos under the same file names as in PHOTOS; missing ones are skipped. Each photo
is used as it is, with half of its change and, for the fit, with 1.6 times its change. JPEG, noise and blur of the
photos are added; `judge` draws five of these for each photo. `fit` uses a random part of 224 by 224 pixels of each
pair, and prints the constants. `judge` uses whole pictures and prints JSON: rank correlation (Spearman), error, and the
highest 3-norm of butteraugli for which the word is `none`, over all pairs and by kind of change. Do not judge on photos
used for the fit. Needs `butteraugli_main` of libjxl on the path (Debian: libjxl-devtools) and scipy.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.stats import spearmanr
from torch.nn.functional import huber_loss

from hashshield.metrics.visibility import Constants, Features, features, pooled, visibility, visible_map
from hashshield.visible import word

Picture = NDArray[np.uint8]

PART = 224
EPOCHS, BATCH, RATE = 10, 8, 0.05
COLOURS = ((1.0, -0.5, 0.0), (1.0, -0.3, -0.3), (0.0, 0.0, 1.0), (0.3, 0.2, -1.0), (0.0, 0.0, 0.0))
"""Colours of smooth noise, as weights of red, green and blue; zeros mean independent noise in each channel."""
START = Constants(
    gain=torch.tensor([[3.0, 5.0, 5.0, 5.0, 5.0], [4.5, 4.0, 4.0, 4.0, 3.5], [2.0, 1.5, 2.0, 3.0, 3.5]]),
    masked=torch.full((3, 5), 0.5),
    activity=torch.tensor([1.0, 1.0, 0.0]),
    exponent=torch.tensor(0.7),
)
"""Initial constants of the fit."""


class Pair(NamedTuple):
    """A photo before and after a change."""

    name: str
    kind: str
    before: Picture
    after: Picture


def butteraugli(before: Picture, after: Picture) -> float:
    """Return the 3-norm of butteraugli's difference map."""
    with TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("before.ppm", "after.ppm")]
        for pixels, name in zip((before, after), names, strict=True):
            Image.fromarray(pixels).save(name)
        said = subprocess.run(["butteraugli_main", *names, "--pnorm", "3"], capture_output=True, text=True, check=True)
    return float(re.findall(r"^3-norm: ([0-9.]+)$", said.stdout, re.MULTILINE)[0])


def opened(path: Path) -> Picture:
    """Return the pixels of a photo in RGB."""
    return np.asarray(Image.open(path).convert("RGB"))


def clipped(values: NDArray[np.floating]) -> Picture:
    """Return values rounded and clipped to 8-bit levels."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def coded(pixels: Picture, quality: int, subsampling: int) -> Picture:
    """Return the picture after JPEG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(out).convert("RGB"))


def hiding(pixels: Picture) -> NDArray[np.float32]:
    """Return weights for noise, (h, w, 1) in [0.1, 1): larger where the standard deviation of 5 x 5 pixels is."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    mean = uniform_filter(grey, 5)
    deviation = np.sqrt(np.maximum(uniform_filter(grey * grey, 5) - mean * mean, 0))
    return (0.1 + 0.9 * deviation / (deviation + 6))[..., None]


def distorted(pixels: Picture, rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    """Yield names and pictures of distortions: JPEG; white and smooth noise, masked or not, grey or coloured; blur."""
    exact = pixels.astype(np.float32)
    for quality in (60, 75, 85, 90, 95):
        yield f"jpeg {quality}", coded(pixels, quality, int(rng.choice([0, 2])))
    for size in (2, 5, 9):
        yield f"masked noise {size}", clipped(exact + rng.normal(0, size, exact.shape) * hiding(pixels))
    yield "noise", clipped(exact + rng.normal(0, rng.uniform(1, 5), exact.shape))
    yield "grey noise", clipped(exact + rng.normal(0, rng.uniform(1, 5), (*exact.shape[:2], 1)))
    for sigma in (1.0, 2.5, 5.0, 10.0):
        for name, colours in (("smooth noise", ((1, 1, 1),)), ("smooth colour", COLOURS)):
            colour = np.array(colours[rng.integers(len(colours))])
            planes = 3 if not colour.any() else 1
            noise = np.stack([gaussian_filter(rng.normal(0, 1, exact.shape[:2]), sigma) for _ in range(planes)], -1)
            noise = (noise if planes == 3 else noise * colour) * rng.uniform(0.7, 6) / noise.std()
            yield f"{name} {sigma}", clipped(exact + noise * (hiding(pixels) if rng.random() < 0.5 else 1))
    sigma = rng.uniform(0.3, 0.9)
    yield "blur", clipped(np.stack([gaussian_filter(exact[..., c], sigma) for c in range(3)], -1))


def pairs(
    photos: Path,
    folders: Sequence[Path],
    shares: Sequence[float],
    rng: np.random.Generator,
    *,
    drawn: int | None = None,
) -> Iterator[Pair]:
    """Yield each photo paired with its distortions, all or `drawn` of them, and with its changes from `folders`.

    Each change is scaled by every factor of `shares`.
    """
    for path in sorted(photos.iterdir()):
        before = opened(path)
        others = list(distorted(before, rng))
        for row in rng.permutation(len(others))[:drawn]:
            yield Pair(path.name, others[row][0], before, others[row][1])
        for folder in folders:
            if not (folder / path.name).is_file():
                continue
            after = opened(folder / path.name)
            if after.shape != before.shape or np.array_equal(after, before):
                continue
            for share in shares:
                change = share * (after.astype(np.float32) - before)
                yield Pair(path.name, f"{folder.name} x {share}", before, clipped(before + change))


def part(pair: Pair, rng: np.random.Generator) -> Pair:
    """Return a random part of a pair, at most PART pixels a side."""
    top, left = (int(rng.integers(0, max(1, size - PART + 1))) for size in pair.before.shape[:2])
    place = slice(top, top + PART), slice(left, left + PART)
    before, after = (np.ascontiguousarray(pixels[place]) for pixels in (pair.before, pair.after))
    return pair._replace(before=before, after=after)


def scores(found: Sequence[Pair]) -> NDArray[np.float64]:
    """Return butteraugli's 3-norm of each pair."""
    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(lambda pair: butteraugli(pair.before, pair.after), found)))


def fitted(taken: Sequence[Features], wanted: NDArray[np.float64]) -> Constants:
    """Return the constants that minimise the Huber loss between logarithms of model and butteraugli, with Adam."""
    generator = torch.Generator().manual_seed(0)
    constants = Constants(*(value.clone().requires_grad_() for value in START))
    optimiser = torch.optim.Adam(list(constants), RATE)
    steps = EPOCHS * -(-len(taken) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    goals = torch.from_numpy(np.log(wanted)).float()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(taken), generator=generator).split(BATCH):
            found = torch.stack([pooled(visible_map(taken[row], constants)).log() for row in rows.tolist()])
            optimiser.zero_grad()
            huber_loss(found, goals[rows], delta=0.3).backward()
            optimiser.step()
            schedule.step()
    return Constants(*(value.detach() for value in constants))


def summary(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, float]:
    """Return figures on how well the model's values `found` predict butteraugli's, `wanted`."""
    error = np.log(found / wanted)
    none = [score for value, score in zip(found, wanted, strict=True) if word(float(value)) == "none"]
    return {
        "pairs": len(found),
        "rank_correlation": round(float(spearmanr(found, wanted)[0]), 4),
        "median_ratio": round(float(np.exp(np.median(error))), 3),
        "rms_log_error": round(float(np.sqrt(np.mean(error**2))), 3),
        "lowest_ratio": round(float(np.exp(error.min())), 3),
        "called_none": len(none),
        "highest_butteraugli_called_none": round(max(none, default=0.0), 3),
    }


def judge(photos: Path, folders: Sequence[Path]) -> dict[str, object]:
    """Compare the model with butteraugli on whole pictures; return summaries over all pairs and by kind."""
    made = list(pairs(photos, folders, (1.0, 0.5), np.random.default_rng(2), drawn=5))
    wanted = scores(made)
    found = np.array([visibility(pair.before, pair.after) for pair in made])
    kinds = np.array([re.sub(r" [0-9.]+$", "", pair.kind) if " x " not in pair.kind else pair.kind for pair in made])
    return {
        "photos": len({pair.name for pair in made}),
        "all": summary(found, wanted),
        "searches": summary(*(values[np.char.find(kinds, " x ") >= 0] for values in (found, wanted))),
        **{str(kind): summary(found[kinds == kind], wanted[kinds == kind]) for kind in dict.fromkeys(kinds)},
    }


def fit(photos: Path, folders: Sequence[Path]) -> Constants:
    """Fit the constants to butteraugli's 3-norm and return them."""
    rng = np.random.default_rng(1)
    made = [part(pair, rng) for pair in pairs(photos, folders, (1.0, 0.5, 1.6), rng)]
    wanted = scores(made)
    rows = [row for row, score in enumerate(wanted) if score > 0.02]
    return fitted([features(made[row].before, made[row].after) for row in rows], wanted[rows])


if __name__ == "__main__":
    torch.set_num_threads(1)
    task, photos, *folders = sys.argv[1], *map(Path, sys.argv[2:])
    if task == "fit":
        torch.set_printoptions(precision=3, sci_mode=False)
        for name, values in fit(photos, folders)._asdict().items():
            print(name, values.numpy().round(3).tolist())
    else:
        print(json.dumps(judge(photos, folders), indent=2))
