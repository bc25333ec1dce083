"""Networks from elsewhere in benches: they serve `away` only, as everywhere, unless their card says research."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_experiment import Silent
from hashshield.bench.config import (
    AdaptiveConfig,
    BaselineConfig,
    BenchConfig,
    ConvergenceConfig,
    GoalsConfig,
    MethodsConfig,
    TauConfig,
    TransferConfig,
)
from hashshield.bench.experiment import open_experiment
from hashshield.bench.goals import run_adaptive, run_goals
from hashshield.bench.methods import run_methods
from hashshield.bench.protecting import protect_queries
from hashshield.bench.searches import attacks_of, run_searches
from hashshield.bench.targeted import run_convergence, run_targeted, run_tau
from hashshield.bench.transfer import run_transfer
from hashshield.bench.untargeted import run_untargeted
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.errors import GoalError
from hashshield.models.importing import import_onnx
from onnx_nets import hash_net, written

SIDE = 48


def foreign(folder: Path, purpose: str = "", name: str = "foreign") -> str:
    """Import a small network, and let its card name the dataset of the tests, which `models import` does not."""
    folder.mkdir(exist_ok=True)
    path, card = written(folder, hash_net(side=SIDE, batch="N"), side=SIDE)
    card.write_text((f'purpose = "{purpose}"\n' if purpose else "") + card.read_text())
    import_onnx(path, card, folder / "imported.safetensors")
    imported = read_checkpoint(folder / "imported.safetensors")
    file = folder / f"{name}.safetensors"
    named = replace(imported.card, dataset="folder", split={"queries": 8, "seed": 0})
    write_checkpoint(file, named, imported.weights, {}, exact=True)
    return str(file)


def common(name: str, data: Path, folder: Path) -> dict[str, Any]:
    return {"models": (name,), "data": data, "output": folder / "out", "queries": 2, "steps": 8, "device": "cpu"}


BENCHES: dict[str, Callable[[str, Path, Path], tuple[Callable[..., Any], Any]]] = {
    "goals": lambda name, data, _: (
        run_goals,
        GoalsConfig(model=name, data=data, goals=("away", "opposite"), photos=2, steps=8, device="cpu"),
    ),
    "methods": lambda name, data, _: (
        run_methods,
        MethodsConfig(model=name, data=data, photos=2, baseline_photos=1, limit=8, only=("rnm",), device="cpu"),
    ),
    "adaptive": lambda *a: (run_adaptive, AdaptiveConfig(**common(*a), goals=("away", "decoy"))),
    "transfer": lambda name, data, folder: (
        run_transfer,
        TransferConfig(
            **{**common(name, data, folder), "models": (name, foreign(folder / "second", name="other"))},
            goals=("opposite",),
            hold_out="network",
            presets=("invisible",),
        ),
    ),
    "untargeted": lambda *a: (run_untargeted, BaselineConfig(**common(*a))),
    "targeted": lambda *a: (run_targeted, BaselineConfig(**common(*a))),
    "tau": lambda *a: (run_tau, TauConfig(**common(*a))),
    "convergence": lambda *a: (run_convergence, ConvergenceConfig(**common(*a))),
}


@pytest.mark.parametrize("bench", BENCHES)
def test_a_bench_refuses_more_than_away(bench: str, classes: Path, tmp_path: Path, silent: Silent) -> None:
    run, config = BENCHES[bench](foreign(tmp_path / "first"), classes, tmp_path)
    with pytest.raises(GoalError, match=r'serves --goal away only, not .*; for research say purpose = "research"') as e:
        run(config, silent)
    assert len(str(e.value).splitlines()) == 1
    assert silent.count == 0, "nothing was hashed before"
    assert not (tmp_path / "out" / "results").exists()


def test_away_is_served(classes: Path, tmp_path: Path, silent: Silent) -> None:
    run, config = BENCHES["goals"](foreign(tmp_path / "first"), classes, tmp_path)
    rows = run(replace(config, goals=("away",)), silent)
    assert [row["goal"] for row in rows] == ["none", "away"]


def test_research_serves_every_goal(classes: Path, tmp_path: Path, silent: Silent) -> None:
    run, config = BENCHES["goals"](foreign(tmp_path / "first", "research"), classes, tmp_path)
    rows = run(config, silent)
    assert [row["goal"] for row in rows] == ["none", "away", "opposite"]


def test_no_search_of_a_bench_gets_around_it(classes: Path, tmp_path: Path, silent: Silent) -> None:
    """A bench that does not ask at its start is stopped at its first search; noise has no aim and is let through."""
    experiment = open_experiment(BenchConfig(**common(foreign(tmp_path / "first"), classes, tmp_path)), silent)
    (length,) = experiment.lengths
    wanted = -experiment.original_bits(length)
    rnm, noise = attacks_of(("rnm", "noise"), 8)
    with pytest.raises(GoalError, match="not searches for given codes"):
        run_searches(experiment, length, rnm, wanted, tau=0.03, progress=silent)
    with pytest.raises(GoalError, match="not opposite"):
        protect_queries(experiment, length, "opposite", tau=0.03, progress=silent)
    assert len(run_searches(experiment, length, noise, wanted, tau=0.03, progress=silent)) == 2
