"""The MAP of a checkpoint, and figure 1 of the paper, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench_experiment import Silent, config_for
from hashshield.bench import retrieval
from hashshield.bench.config import MapConfig
from hashshield.bench.experiment import open_experiment
from hashshield.bench.results import read_result
from hashshield.errors import UsageError


def test_retrieval_has_three_queries_and_their_lists(folder: Path) -> None:
    config, progress = config_for(folder, queries=4, steps=5), Silent()
    rows = retrieval.run_retrieval(config, progress)
    assert progress.count == progress.total
    original, protected, carrier = rows
    assert [row["query"] for row in rows] == ["original", "protected, away", "carrier"]
    assert "median_psnr_db" not in original
    assert protected["largest_levels"] <= 8
    assert carrier["photos"] == 4
    document = read_result(config.output / "results" / "retrieval-tiny.json")
    for entry in document["by_threshold"]:
        assert entry["table"][-1]["recall"] == 1
        assert len(entry["table"]) == 25
    for name in ("retrieval-tiny.png", "retrieval-lists-tiny.png"):
        with Image.open(config.output / "plots" / name) as picture:
            assert picture.width > 300


def test_a_carrier_is_of_another_kind_or_there_is_none(folder: Path) -> None:
    config = config_for(folder, queries=8)
    experiment = open_experiment(config, Silent())
    carried = retrieval.carried_rows(experiment)
    assert not (experiment.queries.labels[carried] & experiment.queries.labels[experiment.picked]).any()
    alone = [int(row) for row in experiment.picked if experiment.queries.labels[row, 0]][:2]
    with pytest.raises(UsageError, match="take more --queries"):
        retrieval.carried_rows(replace(experiment, picked=np.array(alone)))


def test_map_follows_the_card_and_names_its_floor(model: str, classes: Path, silent: Silent) -> None:
    (row,) = retrieval.run_map(MapConfig(models=(model,), data=classes, device="cpu"), silent)
    assert (row["queries"], row["database"], row["bits"]) == (8, 16, 24)
    assert 0 <= row["map_lowest"] <= row["map_random"] <= 1
    assert row["map_lowest"] <= row["map"] <= 1
    assert silent.count == silent.total


def test_map_of_a_missing_folder_says_so(model: str, tmp_path: Path, silent: Silent) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        retrieval.run_map(MapConfig(models=(model,), data=tmp_path / "none", device="cpu"), silent)
