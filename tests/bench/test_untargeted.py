"""Table 3 and figure 3 of the paper, small."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench_experiment import SMALL, Silent, config_for
from hashshield.bench import untargeted
from hashshield.bench.config import BaselineConfig, HeatmapConfig, TraditionalConfig
from hashshield.bench.untargeted import evenness, heat, overlaid, run_heatmap
from hashshield.errors import UsageError
from hashshield.models.hashing import FrozenHash
from hashshield.models.load import OpenModel, open_models
from tiny_net import CARD, SIZE, picture


@pytest.mark.long
def test_untargeted_asks_in_every_way(folder: Path) -> None:
    config = config_for(folder, kind=BaselineConfig, queries=2, **SMALL)
    progress = Silent()
    rows = untargeted.run_untargeted(config, progress)
    assert progress.count == progress.total
    names = [row["method"] for row in rows]
    assert names[:2] == ["original", "noise"]
    protected = product(("invisible", "balanced"), ("away", "opposite", "decoy"))
    assert names[-7:] == ["saat's goal, rnm", *(f"protect, {preset}, {goal}" for preset, goal in protected)]
    assert {row["photos"] for row in rows} == {2}
    for row in rows:
        for way in ("complement", "predicted_flip", "real_valued", "jpeg_q75", "blur"):
            assert row["map_lowest"] - 1e-4 <= row[f"map_{way}"] <= 1
    by_name = {row["method"]: row for row in rows}
    assert by_name["original"]["mean_distance_from_original"] == 0
    opposite, noise = by_name["protect, invisible, opposite"], by_name["noise"]
    assert opposite["mean_distance_from_original"] > noise["mean_distance_from_original"]


def test_traditional_matches_the_papers_psnrs(folder: Path) -> None:
    config, progress = (
        config_for(folder, kind=TraditionalConfig, queries=2, steps=5, taus=(0.01, 0.03), **SMALL),
        Silent(),
    )
    rows = untargeted.run_traditional(config, progress)
    assert progress.count == progress.total
    names = ["original", "mosaic", "brightness", "transparency", "noise"]
    names += [f"{method}, tau {tau}" for method in ("rnm-paper", "away") for tau in (0.01, 0.03)]
    assert [row["change"] for row in rows] == names
    by_name = {row["change"]: row for row in rows}
    for name, config_db in (("brightness", 13.02), ("transparency", 18.28), ("noise", 24.53)):
        assert by_name[name]["median_psnr_db"] == pytest.approx(config_db, abs=0.15)
    assert by_name["away, tau 0.01"]["largest_levels"] <= 2
    assert by_name["away, tau 0.03"]["largest_levels"] <= 7
    with Image.open(config.output / "plots" / "traditional-tiny.png") as picture:
        assert picture.width > 3 * 200


class Means(nn.Module):
    """Each channel averaged over blocks of 8 pixels, then over the picture: a trunk whose heat is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.AvgPool2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images).mean((2, 3))


def known(weights: list[float], trunk: nn.Module | None = None) -> OpenModel:
    """One bit: the weighted sum of the channels' means, without normalisation."""
    head = nn.Linear(3, 1, bias=False)
    head.weight.data = torch.tensor([weights])
    network = FrozenHash(trunk or Means(), nn.Sequential(), head, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    return OpenModel("known:1", network, replace(CARD, input=replace(SIZE, resize=32, crop=32)), None)


def test_the_heat_is_where_the_code_comes_from() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, 24:, 0] = 200  # red, in one block
    pixels[16:24, :8, 1] = 100  # green, in another
    found = heat(known([2.0, 1.0, 0.0]), pixels)
    expected = np.zeros((4, 4))
    expected[0, 3], expected[2, 0] = 1, 0.25
    assert found == pytest.approx(expected, abs=1e-5)
    # What speaks against the code is not what it rests on.
    assert heat(known([2.0, -1.0, 0.0]), pixels)[2, 0] == 0


def test_a_network_without_a_picture_inside_says_so() -> None:
    with pytest.raises(UsageError, match="known:1: its layers keep no picture"):
        heat(known([1.0, 1.0, 1.0], nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), picture(32, 32))


def test_the_overlay_is_the_view_and_hooks_are_gone(tiny: Path) -> None:
    (opened,) = open_models([f"{tiny}:24"])
    pixels = picture(48, 64, seed=2)
    warmth = heat(opened, pixels)
    assert warmth.max() == 1
    assert warmth.min() >= 0
    shown = overlaid(opened, pixels, warmth)
    assert shown.shape == (32, 32, 3)
    assert not any(module._forward_hooks for module in opened.model.modules())
    cold = overlaid(opened, pixels, np.zeros((4, 4), np.float32))
    assert cold[..., 2].mean() > cold[..., 0].mean(), "cold is blue"


def test_spread_is_between_one_place_and_all() -> None:
    one = np.zeros((4, 4), np.float32)
    one[1, 2] = 1
    assert evenness(one) == 0
    assert evenness(np.ones((4, 4), np.float32)) == pytest.approx(1)
    half = np.zeros((4, 4), np.float32)
    half[:2] = 1
    assert evenness(half) == pytest.approx(0.75)


def test_heatmap_holds_the_heat_against_the_originals(folder: Path) -> None:
    config, progress = config_for(folder, kind=HeatmapConfig, queries=2, steps=5), Silent()
    rows = run_heatmap(config, progress)
    assert progress.count <= progress.total
    assert [row["change"] for row in rows] == ["original", "mosaic", "brightness", "transparency", "noise", "away"]
    for row in rows:
        assert 0 <= row["spread"] <= 1
        assert -1 <= row.get("correlation_with_original", 1) <= 1
    with Image.open(config.output / "plots" / "heatmap-tiny.png") as picture:
        assert picture.width > 6 * 200
