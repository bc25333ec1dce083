"""The checkpoint `copies` as released: it finds edited photos, tells others apart, and is what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.bench.copies import COPY_EDITS
from hashshield.checkpoints.card import read_card
from hashshield.models.load import OpenModel, open_models
from hashshield.training.recipe import read_recipe

FILE = Path(__file__).parents[2] / "checkpoints" / "copies.safetensors"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="source archives come without the larger checkpoints")


@pytest.fixture(scope="module")
def opened() -> OpenModel:
    return open_models([f"{FILE}:256"])[0]


def photos(data: Path) -> list[Image.Image]:
    return [Image.open(data / f"{name}.jpg").convert("RGB") for name in ("kangaroo", "lotus", "sunflower")]


def embedding(opened: OpenModel, image: Image.Image) -> torch.Tensor:
    return torch.nn.functional.normalize(opened.hash(np.asarray(image)).features, dim=0)


def test_it_comes_from_the_recipe_of_the_package() -> None:
    card, recipe = read_card(FILE), read_recipe("copies")
    assert FILE.stat().st_size <= 12_000_000
    assert card.bits == (256,)
    assert card.recipe["seed"] == 0
    assert {stage["train"]: stage["epochs"] for stage in card.recipe["stages"]} == {
        stage.train: stage.epochs for stage in recipe.stages
    }
    assert card.recipe["contrast"] == recipe.as_dict()["contrast"]
    assert card.input == recipe.input
    assert card.split["queries"] == 3300


def test_edited_photos_are_found_and_others_are_not(opened: OpenModel, data: Path) -> None:
    assert opened.card.cosine is not None
    originals = photos(data)
    plain = [embedding(opened, image) for image in originals]
    found = 0
    for place, image in enumerate(originals):
        for number, edit in enumerate(COPY_EDITS.values()):
            other = (place + 1) % len(originals)
            edited = embedding(opened, edit(image, originals[other], np.random.default_rng(number)))
            cosines = [float(edited @ each) for each in plain]
            found += cosines[place] >= opened.card.cosine
            assert cosines[place] == max(cosines)
            assert all(cosine < opened.card.cosine for at, cosine in enumerate(cosines) if at not in (place, other))
    assert found >= 0.7 * len(originals) * len(COPY_EDITS)


def test_codes_are_near_where_embeddings_are(opened: OpenModel, data: Path) -> None:
    assert opened.card.within is not None
    first, second = photos(data)[:2]
    mirrored = COPY_EDITS["mirrored"](first, second, np.random.default_rng(0))
    one, other, elsewhere = (opened.hash(np.asarray(image)).bits for image in (first, mirrored, second))
    assert np.count_nonzero(one != other) <= opened.card.within < np.count_nonzero(one != elsewhere)
