"""HashStash: its clusters, the density it fits to them, and where it moves a photo's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from bench_experiment import SMALL, Silent, config_for
from hashshield.bench.config import BaselineConfig
from hashshield.bench.experiment import open_experiment
from hashshield.bench.hashstash import cluster_centres, hashstash_attack, sparseness_quadratics
from hashshield.bench.searches import run_searches


def codes_around(centres: int, each: int, bits: int, *, flips: int, seed: int = 0) -> np.ndarray:
    """(centres * each, bits) codes in {-1, +1}: `each` around every random centre, with `flips` bits flipped."""
    random = np.random.default_rng(seed)
    around = random.choice([-1, 1], (centres, bits)).repeat(each, 0)
    for row in around:
        row[random.permutation(bits)[:flips]] *= -1
    return around.astype(np.int8)


def spread(codes: np.ndarray, centres: np.ndarray) -> float:
    """The sum of squared distances to the nearest centres."""
    return float(((codes[:, None].astype(float) - centres) ** 2).sum(2).min(1).sum())


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_as_tight_as_those_of_scikit_learn(seed: int) -> None:
    codes = codes_around(8, 60, 48, flips=6, seed=seed)
    found = cluster_centres(codes, 8, seed=seed)
    theirs = KMeans(8, n_init=10, random_state=seed).fit(codes)
    assert found.shape == (8, 48)
    assert spread(codes, found) == pytest.approx(theirs.inertia_, rel=0.01)


def test_each_centre_is_the_mean_of_its_codes() -> None:
    codes = codes_around(5, 40, 24, flips=4)
    found = cluster_centres(codes, 5, seed=0)
    nearest = ((codes[:, None].astype(float) - found) ** 2).sum(2).argmin(1)
    for i in np.unique(nearest):
        assert found[i] == pytest.approx(codes[nearest == i].mean(0), abs=1e-5)


def test_more_clusters_than_different_codes() -> None:
    codes = np.repeat(np.array([[1, 1], [-1, 1]], np.int8), 5, 0)
    found = cluster_centres(codes, 4, seed=0)
    assert spread(codes, found) == 0
    with pytest.raises(ValueError, match="11 clusters of 10 codes"):
        cluster_centres(codes, 11, seed=0)


def test_the_quadratic_fits_the_codes_that_lie_further_out() -> None:
    codes = codes_around(1, 200, 48, flips=0)
    centre = codes[:1].astype(np.float32)
    # Nothing lies further than 0: 200 codes at r = 0, none beyond. With 3,000 radii the fit is close to 0.
    flat = np.polyval(sparseness_quadratics(codes, centre)[0], np.linspace(0, 30, 50))
    assert np.abs(flat).max() < 2
    for count, row in enumerate(codes):  # 0, 1, ..., 30 bits from the centre: about 200 (1 - r / 30) lie further
        row[: count * 31 // 200] *= -1
    line = np.polyval(sparseness_quadratics(codes, centre)[0], np.linspace(0, 30, 50))
    assert line == pytest.approx(200 * (1 - np.linspace(0, 30, 50) / 31), abs=4)


def test_the_loss_pushes_a_code_out_of_its_cluster(folder: Path) -> None:
    experiment = open_experiment(config_for(folder, kind=BaselineConfig, queries=2, **SMALL), Silent())
    (length,) = experiment.lengths
    attack = hashstash_attack(experiment, length, limit=20)
    assert (attack.method.steps, attack.returns_last, attack.leaks) == (20, True, False)
    code = torch.from_numpy(experiment.original_bits(length)).float().requires_grad_()
    nothing = torch.zeros(len(code))
    loss = attack.method.term(code, code, nothing, nothing)
    assert loss.shape == (len(code),)
    (gradient,) = torch.autograd.grad(loss.sum(), code)
    moved = attack.method.term(code.detach() - 0.01 * gradient / gradient.norm(), code, nothing, nothing)
    assert (moved < loss).all()


def test_it_takes_all_its_steps_within_any_bound(folder: Path) -> None:
    experiment = open_experiment(config_for(folder, kind=BaselineConfig, queries=3, **SMALL), Silent())
    (length,) = experiment.lengths
    attack = hashstash_attack(experiment, length, limit=20)
    originals = experiment.original_bits(length)
    trials = {
        tau: run_searches(experiment, length, attack, -originals, tau=tau, progress=Silent()) for tau in (0.032, 1.0)
    }
    for tau, made in trials.items():
        pairs = zip(made, experiment.photos, strict=True)
        most = [int(np.abs(trial.pixels.astype(int) - before).max()) for trial, before in pairs]
        assert all(0 < levels <= 255 * tau + 1 for levels in most)
        assert [trial.record["steps"] for trial in made] == [20] * 3
