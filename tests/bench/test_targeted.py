"""Tables 1 and 2 and figure 2 of the paper, small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench_experiment import SMALL, Silent, config_for, trials
from hashshield.attacks import version_of
from hashshield.bench import targeted
from hashshield.bench.config import BaselineConfig, ConvergenceConfig, TauConfig
from hashshield.bench.experiment import draw_targets, open_experiment
from hashshield.bench.results import Trial, read_result
from hashshield.errors import UnknownNameError, UsageError
from official_trees import flickr
from tiny_net import write_tiny


@pytest.mark.long
def test_targeted_has_a_row_per_length_and_method_beside_its_bounds(folder: Path) -> None:
    progress, config = Silent(), config_for(folder, "", kind=BaselineConfig, **SMALL)
    rows = targeted.run_targeted(config, progress)
    assert progress.count == progress.total
    assert [row["method"] for row in rows if row["bits"] == 16] == [
        *("original", "noise", "tanh, P2P", "tanh, P2S", "tanh-dhta, P2P", "tanh-dhta, P2S"),
        *("rnm-paper, P2P", "rnm-paper, P2S"),
        *("rnm-greedyhash, P2P", "rnm-greedyhash, P2S", "rnm, P2P", "rnm, P2S"),
        *("protect, invisible, P2P", "protect, invisible, P2S", "protect, balanced, P2P", "protect, balanced, P2S"),
    ]
    assert {row["bits"] for row in rows} == {16, 24}
    for row in rows:
        assert row["map_lowest"] <= row["map"] <= 1
        assert 0 < row["map_reference"] <= 1
        assert row["photos"] == 3, "all methods run on the same photos"
        assert row.get("largest_levels", 0) <= 8
    document = read_result(config.output / "results" / "targeted-tiny.json")
    assert document["rows"] == rows
    told = document["environment"]
    assert told["seed"] == 0
    assert told["limit"] == 6
    assert told["search_versions"]["tanh"] == version_of("tanh")
    assert "balanced" in told["search_versions"]
    assert told["relevance"] == "the same class"
    assert "ties" in told
    assert "unfinished" not in "".join(path.name for path in (config.output / "results").iterdir())


def test_an_unknown_preset_is_named_before_anything_is_hashed(folder: Path) -> None:
    progress = Silent()
    with pytest.raises(UnknownNameError, match="unknown preset 'best'; known are invisible"):
        targeted.run_targeted(config_for(folder, kind=BaselineConfig, presets=("best",), **SMALL), progress)
    assert progress.total == 0


def test_what_one_bench_made_the_others_use(folder: Path) -> None:
    config = config_for(folder, "", kind=BaselineConfig, **SMALL)
    targeted.run_targeted(config, Silent())
    before = trials(config)
    rows = targeted.run_convergence(config_for(folder, "", kind=ConvergenceConfig, queries=2, **SMALL), Silent())
    after = trials(config)
    assert before.items() <= after.items()
    # Only rnm-first, on two photos at two lengths, is new.
    assert len(after) - len(before) == 4
    assert len(rows) == 2 * len(targeted.CONVERGENCE_METHODS)


def test_convergence_tells_the_distance_after_every_step(folder: Path) -> None:
    config, progress = config_for(folder, kind=ConvergenceConfig, queries=2, **SMALL), Silent()
    rows = targeted.run_convergence(config, progress)
    assert progress.count == progress.total
    document = json.loads((config.output / "results" / "convergence-tiny.json").read_text())
    for row, curve in zip(rows, document["curves"], strict=True):
        assert curve["step"] == list(range(7))
        assert curve["mean"][0] == row["distance_at_0"]
        assert curve["mean"][-1] == row["distance_at_end"]
        assert row["steps_to_0.1"] == "> 6" or curve["mean"][row["steps_to_0.1"]] < 0.1
        assert row["mean_distance_to_target"] >= 0
        assert 0 <= row["map_low"] <= row["map"] <= row["map_high"] <= 1
    starts = {row["distance_at_0"] for row in rows}
    assert len(starts) == 1, "all begin with the same photos and targets"
    experiment = open_experiment(config, Silent())
    anchors = draw_targets(experiment, anchor=3).anchor(experiment.database, 24)
    assert starts == {float((experiment.original_bits(24) != anchors).sum(axis=1).mean())}
    with Image.open(config.output / "plots" / "convergence-tiny.png") as picture:
        assert picture.width > 300
        assert len(set(picture.convert("RGB").resize((60, 60)).tobytes())) > 3


def test_a_curve_holds_its_last_distance() -> None:
    pixels = np.zeros((1, 1, 3), np.uint8)
    two = [Trial(pixels, {"distances": d}) for d in ([[0, 8], [2, 4], [3, 0]], [[0, 4], [1, 2]])]
    assert targeted.mean_curve(two, 5).tolist() == [6, 5, 3, 1, 1, 1]


def test_rnm_takes_the_steps_it_is_told_and_none_takes_more_than_the_limit(folder: Path) -> None:
    config = config_for(folder, kind=TauConfig, queries=2, steps=4, taus=(0.02,), limit=7, anchor=3)
    rows = targeted.run_tau(config, Silent())
    assert [row["steps"] for row in rows] == [0, 7, 7, 7, 4]
    rows = targeted.run_tau(replace(config, steps=None, limit=3), Silent())
    assert [row["steps"] for row in rows] == [0, 3, 3, 3, 3]
    rows = targeted.run_tau(replace(config, steps=None, limit=45, taus=(0.0,)), Silent())
    assert [row["steps"] for row in rows] == [0, 45, 45, 45, 45], "40 steps of rnm, and 5 because it missed"


def test_tau_bounds_the_change(folder: Path) -> None:
    config = config_for(folder, kind=TauConfig, queries=2, taus=(0.01, 0.05), **SMALL)
    rows = targeted.run_tau(config, Silent())
    assert len(rows) == 2 * (1 + 4)
    levels = {row["tau"]: max(r["largest_levels"] for r in rows if r["tau"] == row["tau"]) for row in rows}
    assert levels[0.01] <= 2
    assert 2 < levels[0.05] <= 12


@pytest.mark.long
def test_photos_with_several_labels_run_by_the_same_command(tmp_path: Path) -> None:
    flickr(tmp_path / "mirflickr25k")
    file = write_tiny(
        tmp_path / "tiny.safetensors", dataset="flickr25k", split={"queries": 6, "seed": 0, "name": "paper"}
    )
    config = BaselineConfig(
        models=(f"{file}:16",),
        data=tmp_path / "mirflickr25k",
        output=tmp_path / "out",
        queries=3,
        limit=2,
        anchor=1,
        device="cpu",
    )
    rows = targeted.run_targeted(config, Silent())
    told = read_result(tmp_path / "out" / "results" / "targeted-tiny.json")["environment"]
    assert told["relevance"] == "at least one shared label"
    by_name = {row["method"]: row for row in rows}
    # An anchor of one photo is that photo.
    assert by_name["rnm, P2P"]["map_reference"] == by_name["rnm, P2S"]["map_reference"]
    with pytest.raises(UsageError, match="no label set without a label of this photo has the 9 photos"):
        targeted.run_targeted(replace(config, anchor=9), Silent())
