"""HashStash (Xiao, Wang and Gao, "Evade Deep Image Retrieval by Stashing Private Images in the Hash Space", CVPR 2020).

It moves a photo's code to where a service's database is sparse, away from all classes at once. The database's codes are
clustered by K-means. For each cluster, a quadratic of the distance r to its centre is fitted to the number of its codes
at least r away. The loss is the sum of these quadratics at the code's own distances, minimised by gradient descent with
momentum. The constants are those of the authors' public code (github.com/SugarRuy/HashStash), which has no bound on the
change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.arrays import Bits
from hashshield.attacks import steps
from hashshield.attacks.methods import Method
from hashshield.bench.experiment import Experiment
from hashshield.bench.searches import Attack

__all__ = ["cluster_centres", "hashstash_attack", "sparseness_quadratics"]

_STEPS = 100
_LEARNING_RATE, _MOMENTUM = 0.1 / 255, 0.9
_CLUSTERS_PER_CLASS = 2
"""The defaults of the authors' code: 20 clusters for 10 classes, 200 for 100. Its example takes 25 for 10."""
_FARTHEST = 30 / 48
"""Largest distance that a quadratic is fitted to, as a share of the code's length."""
_FITTED = 3000
"""Number of distances that a quadratic is fitted to."""
_STARTS, _MOST_ROUNDS = 10, 300
"""Starts and rounds of K-means: those of scikit-learn at that time, which the authors use."""

Centres = NDArray[np.float32]
"""(C, K) cluster centres in [-1, 1]."""


def hashstash_attack(experiment: Experiment, length: int, limit: int) -> Attack:
    """Return HashStash against the experiment's database, with at most `limit` steps."""
    database = experiment.database.bits(length)
    count = min(_CLUSTERS_PER_CLASS * experiment.database.labels.shape[1], len(database))
    centres = cluster_centres(database, count, seed=experiment.seed)
    term = _ClusterDensity(torch.from_numpy(centres), torch.from_numpy(sparseness_quadratics(database, centres)))
    descent = steps.HeavyBallRule(_LEARNING_RATE, _MOMENTUM)
    return Attack("hashstash", Method("hashstash", term, descent, steps=min(_STEPS, limit), stop="budget"))


def cluster_centres(codes: Bits, count: int, *, seed: int) -> Centres:
    """Return the (count, K) centres of (N, K) codes by K-means: the tightest of ten runs from k-means++ starts.

    A centre that loses all of its codes stays where it is. Raise ValueError unless 1 <= count <= N.
    """
    if not 1 <= count <= len(codes):
        raise ValueError(f"{count} clusters of {len(codes)} codes")
    points = torch.from_numpy(codes.astype(np.float32))
    runs = [_lloyd(points, _spread_out(points, count, np.random.default_rng([seed, i]))) for i in range(_STARTS)]
    _, centres = min(runs, key=lambda run: run[0])
    found: Centres = centres.numpy()
    return found


def _spread_out(points: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Draw points as centres, each in proportion to its squared distance from those drawn before (k-means++)."""
    rows = [int(random.integers(len(points)))]
    while len(rows) < count:
        nearest = torch.cdist(points, points[rows]).amin(1).square().double().numpy()
        total = nearest.sum()
        rows.append(int(random.choice(len(points), p=nearest / total if total > 0 else None)))
    return points[rows]


def _lloyd(points: Tensor, centres: Tensor) -> tuple[float, Tensor]:
    """Return the sum of squared distances to the nearest centres and the centres, once no point changes its own."""
    before = None
    for _ in range(_MOST_ROUNDS):
        distances, members = torch.cdist(points, centres).min(1)
        if before is not None and torch.equal(members, before):
            break
        before = members
        sizes = torch.bincount(members, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, members, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return float(distances.square().sum()), centres


def sparseness_quadratics(codes: Bits, centres: Centres) -> NDArray[np.float32]:
    """Return (C, 3) coefficients, highest power first, of a quadratic for each cluster of (N, K) codes.

    It is the least-squares fit, over distances r from 0 to 30 of 48 bits, to the number of the cluster's codes at least
    r from its centre. A distance is half the L1 distance, which is the Hamming distance if both are bits.
    """
    radii = np.linspace(0, _FARTHEST * codes.shape[1], _FITTED, endpoint=False)
    members = torch.cdist(torch.from_numpy(codes.astype(np.float32)), torch.from_numpy(centres)).argmin(1).numpy()
    fitted = []
    for i, centre in enumerate(centres):
        distances = np.sort(np.abs(codes[members == i] - centre).sum(1) / 2)
        further = len(distances) - np.searchsorted(distances, radii, side="left")
        fitted.append(np.polyfit(radii, further, 2))
    return np.array(fitted, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _ClusterDensity:
    """The sum of the clusters' quadratics at the distances of (N, K) codes: HashStash's loss, (N,)."""

    centres: Tensor
    quadratics: Tensor

    def __call__(self, code: Tensor, _wanted: Tensor, _at: Tensor, _aimed: Tensor, /) -> Tensor:
        centres, quadratics = self.centres.to(code), self.quadratics.to(code)
        distance = (code[:, None] - centres).abs().sum(2) / 2
        squared, linear, constant = quadratics.unbind(1)
        return (squared * distance.square() + linear * distance + constant).sum(1)
