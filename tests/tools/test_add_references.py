"""Reference codes for checkpoints that were trained without them, from a dataset of a thousand small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashshield.checkpoints.card import has_references, read_card
from hashshield.checkpoints.file import read_checkpoint
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import hash_files
from hashshield.models.load import open_models
from tiny_net import encoded, picture, write_tiny
from tools.add_references import main


def dataset(root: Path, photos: int) -> Path:
    for number in range(photos):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(encoded(picture(36, 40, seed=number)))
    return root


def test_a_thousand_codes_of_the_database_are_written(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", 1010)
    file = write_tiny(tmp_path / "a.safetensors", dataset="folder", split={"queries": 8, "seed": 0})
    before = read_card(file)
    assert main(["--data", str(data), str(file)]) == 0
    found = read_checkpoint(file)
    assert found.card == before
    assert {bits: codes.shape for bits, codes in found.references.items()} == {16: (1000, 16), 24: (1000, 24)}
    (model,) = open_models([f"{file}:24"])
    (codes,) = hash_files([model.model], model.card.input, sorted(data.rglob("*.png")))
    theirs = {row.tobytes() for row in bits_of(codes)}
    assert {row.tobytes() for row in found.references[24]} <= theirs
    assert np.array_equal(model.references, found.references[24])


def test_a_smaller_dataset_gives_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path / "data", 30)
    file = write_tiny(tmp_path / "a.safetensors", dataset="folder", split={"queries": 8, "seed": 0})
    assert main(["--data", str(data), str(file)]) == 2
    assert "the database has 22 photos, and reference codes take 1,000" in capsys.readouterr().err
    assert not has_references(file, 16)
