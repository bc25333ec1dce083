"""Training of a copy detector on scenes: what it writes, that it goes on after an interruption, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from copy_detector import HEADS, RECIPE, TAIL, write_scenes
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import read_checkpoint
from hashshield.datasets import open_dataset
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of, hamming
from hashshield.models.hashing import feature_files, hash_files
from hashshield.models.load import open_models
from hashshield.training.recipe import Epoch, Recipe
from hashshield.training.trainer import train


class Quiet:
    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[Epoch] = []
        self.notes: list[str] = []
        self.stop_after = stop_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if epoch.epoch == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def trained(scenes: Path, output: Path, recipe: Recipe = RECIPE, **how: object) -> tuple[Card, Quiet]:
    reporter = how.pop("reporter", None) or Quiet()
    assert isinstance(reporter, Quiet)
    resume = bool(how.get("resume"))
    return train(recipe, data=scenes, output=output, device="cpu", resume=resume, reporter=reporter), reporter


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card, Quiet]:
    output = tmp_path_factory.mktemp("whole") / "tiny-copies.safetensors"
    return (output, *trained(scenes, output))


def test_the_card_names_thresholds_that_the_file_has(scenes: Path, whole: tuple[Path, Card, Quiet]) -> None:
    output, card, reporter = whole
    assert [epoch.epoch for epoch in reporter.epochs] == [1, 2, 3, 4]
    assert card == read_card(output)
    assert (card.bits, card.classes, card.map) == ((256,), (), {})
    assert card.split["training"] == 28
    assert card.recipe == json.loads(json.dumps({**RECIPE.as_dict(), "seed": 0}))
    assert not output.with_name(output.name + ".state").exists()
    files = open_dataset("folder", scenes)
    held_out = [files.root / files.paths[i] for i in files.split(seed=0, queries=20).queries]
    (opened,) = open_models([str(output)])
    embeddings = feature_files(opened.model, card.input, held_out)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    pairs = np.triu_indices(20, 1)
    (codes,) = hash_files([opened.model], card.input, held_out)
    distances = hamming(bits_of(codes), bits_of(codes))[pairs]
    # One pair in a thousand of 190 is none.
    assert card.cosine == pytest.approx((embeddings @ embeddings.T)[pairs].max(), abs=1e-3)
    assert card.within == distances.min() - 1


def test_an_interrupted_training_ends_with_the_same_file(
    scenes: Path, whole: tuple[Path, Card, Quiet], tmp_path: Path
) -> None:
    output = tmp_path / "tiny-copies.safetensors"
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            trained(scenes, output, reporter=Quiet(stop_after=epoch), resume=True)
    _, reporter = trained(scenes, output, resume=True)
    assert [epoch.epoch for epoch in reporter.epochs] == [4]
    assert output.read_bytes() == whole[0].read_bytes()


def test_only_what_a_stage_trains_changes(scenes: Path, whole: tuple[Path, Card, Quiet], tmp_path: Path) -> None:
    heads = tmp_path / "heads.safetensors"
    trained(scenes, heads, replace(RECIPE, stages=(HEADS,)))
    before, after = read_checkpoint(heads).weights, read_checkpoint(whole[0]).weights
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed >= {"trunk.embedding.weight", "heads.256.weight", "trunk.lite.head.0.weight"}
    late = ("trunk.lite.blocks.11.", "trunk.lite.blocks.12.", "trunk.lite.blocks.13.", "trunk.lite.blocks.14.")
    allowed = (*late, "trunk.lite.blocks.15.", "trunk.lite.head.", "trunk.embedding.", "heads.256.")
    assert {key for key in changed if not key.startswith(allowed)} == set()


def test_the_loss_goes_down(scenes: Path, tmp_path: Path) -> None:
    assert RECIPE.contrast is not None
    stage = replace(TAIL, epochs=8, learning_rate=1e-3)
    # What is remembered repels from the second batch on, and would make the first one look easy.
    alone = replace(RECIPE, stages=(stage,), contrast=replace(RECIPE.contrast, memory=0))
    _, reporter = trained(scenes, tmp_path / "a.safetensors", alone)
    losses = [epoch.loss for epoch in reporter.epochs]
    assert losses[-1] < 0.9 * losses[0]


def test_a_state_of_another_recipe_is_refused(scenes: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(scenes, output, reporter=Quiet(stop_after=1))
    with pytest.raises(UsageError, match="belongs to another recipe"):
        trained(scenes, output, replace(RECIPE, stages=(HEADS,)), resume=True)
