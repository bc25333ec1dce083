from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench_stage import Silent, write_classes
from hashshield.bench import goals, methods, size, speed
from hashshield.bench import map as bench_map
from hashshield.errors import UnknownNameError, UsageError
from tiny_net import encoded, picture, write_tiny


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("classes") / "pictures")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return f"{write_tiny(path, dataset='folder', split={'queries': 8, 'seed': 0})}:24"


def test_map_follows_the_card_and_names_its_floor(model: str, classes: Path, silent: Silent) -> None:
    (row,) = bench_map.run(models=[model], data=classes, device="cpu", progress=silent)
    assert (row["queries"], row["database"], row["bits"]) == (8, 16, 24)
    assert 0 <= row["map_lowest"] <= row["map_random"] <= 1
    assert row["map_lowest"] <= row["map"] <= 1
    assert silent.count == silent.total


def test_map_of_a_missing_folder_says_so(model: str, tmp_path: Path, silent: Silent) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        bench_map.run(models=[model], data=tmp_path / "none", device="cpu", progress=silent)


def test_goals_compare_with_the_unprotected_photo(model: str, classes: Path, silent: Silent) -> None:
    none, away, opposite = goals.run(
        model=model, data=classes, goals=["away", "opposite"], photos=4, steps=30, device="cpu", progress=silent
    )
    assert none["rank_symmetric"] == 1, "unprotected, the original comes first"
    assert (away["goal"], away["photos"]) == ("away", 4)
    assert opposite["mean_distance_from_original"] >= away["mean_distance_from_original"]
    assert away["largest_levels"] <= 8
    assert silent.count <= silent.total
    _, balanced = goals.run(
        model=model, data=classes, goals=["away"], preset="balanced", photos=4, steps=30, device="cpu", progress=silent
    )
    assert (away["preset"], balanced["preset"]) == ("invisible", "balanced")
    assert balanced["median_psnr_db"] != away["median_psnr_db"], "another search"


def test_methods_can_be_run_one_by_one(model: str, classes: Path, silent: Silent) -> None:
    def rows(*only: str) -> list[dict[str, Any]]:
        return methods.run(
            model=model, data=classes, photos=2, rival_photos=2, limit=3, only=only, device="cpu", progress=silent
        )

    assert [row["method"] for row in rows("hag")] == ["hag, own rule", "hag, minimum norm, 40 steps"]
    with pytest.raises(UnknownNameError, match="unknown method 'gah'; known are rnm"):
        rows("rnm", "gah")


def test_methods_censor_what_is_not_reached(model: str, classes: Path, silent: Silent) -> None:
    rows = methods.run(model=model, data=classes, photos=3, rival_photos=2, limit=5, device="cpu", progress=silent)
    assert len(rows) == 3 + 2 * len(methods.RIVALS)
    for row in rows:
        assert 0 <= row["distance_0_written"] <= 1
        steps = row["steps_to_goal_95"]
        assert steps == f"> {row['limit']}" or 0 <= steps <= row["limit"]
    assert silent.count == silent.total


def test_speed_counts_every_photo(model: str, tmp_path: Path, silent: Silent) -> None:
    for index in range(3):
        Image.fromarray(np.asarray(picture(seed=index))).save(tmp_path / f"{index}.png")
    (row,) = speed.run(model=model, photos=tmp_path, batch_size=2, rounds=2, device="cpu", progress=silent)
    assert row["photos"] == 3
    assert row["loop_over_floor"] > 0
    assert row["steps"] > 0
    for stage in ("attack", "decode", "grid", "finish", "encode", "receipt", "ledger"):
        assert row[f"{stage}_seconds"] > 0, stage


def test_speed_of_an_empty_folder_says_so(model: str, tmp_path: Path, silent: Silent) -> None:
    with pytest.raises(UsageError, match="no photos"):
        speed.run(model=model, photos=tmp_path, device="cpu", progress=silent)


def test_size_measures_each_in_a_process_of_its_own(model: str, tmp_path: Path, silent: Silent) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(60, 90, seed=3)))
    rows = size.run(model=model, photo=tmp_path / "a.png", megapixels=(0.02, 0.3), device="cpu", progress=silent)
    assert [row["megapixels"] for row in rows] == [0.02, 0.3]
    assert rows[0]["more_than_first_seconds"] == 0.0
    for row in rows:
        parts = ("decode", "finish", "encode", "receipt")
        assert row["without_ssim_seconds"] == pytest.approx(sum(row[f"{name}_seconds"] for name in parts), abs=0.01)
        assert row["ssim_seconds"] > 0
        assert row["peak_memory_mib"] > 100
        assert row["status"] in ("protected", "short")
    assert silent.count == silent.total == 4


@pytest.mark.parametrize("content", [None, b"no photo"])
def test_size_of_no_photo_says_so(content: bytes | None, model: str, tmp_path: Path, silent: Silent) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.jpg"):
        size.run(model=model, photo=tmp_path / "a.jpg", progress=silent)
