from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from hashshield.checkpoints.card import InputSpec
from hashshield.errors import UnknownNameError, UsageError
from hashshield.models.backbones import backbone
from hashshield.text import parse_toml
from hashshield.training.recipe import read_recipe, recipe_names

GOOD = """
name = "mine"
licence = "CC0-1.0"
attribution = ""
[data]
dataset = "folder"
queries = 8
[model]
arch = "shufflenet_v2_x0_5"
bits = [8, 16]
[input]
resize = 36
crop = 32
interpolation = "bilinear"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[[stages]]
train = "heads"
epochs = 3
"""


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.attribution
    assert recipe.licence
    # RegNet works its widths out on tensors, which must hold something.
    with torch.device("cpu" if recipe.model.arch.startswith("regnet") else "meta"):
        backbone(recipe.model.arch)
    assert recipe.input.crop <= recipe.input.resize


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    recipe = read_recipe(path)
    assert recipe == read_recipe(str(path))
    assert recipe.model.bits == (8, 16)
    assert recipe.input == InputSpec(36, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert (recipe.loss.positive_share, recipe.loss.quantisation, recipe.loss.classification) == (0.5, 0.1, 0.0)
    assert [(s.train, s.epochs, s.batch) for s in recipe.stages] == [("heads", 3, 128)]
    assert recipe.as_dict()["data"] == {"dataset": "folder", "queries": 8, "split_seed": 0}


def test_what_says_nothing_is_not_in_the_card(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("queries = 8", 'split = "paper"\ntraining = 5'))
    assert read_recipe(path).as_dict()["data"] == {
        "dataset": "folder",
        "split": "paper",
        "split_seed": 0,
        "training": 5,
    }


@pytest.mark.parametrize("name", [n for n in recipe_names() if "flickr" in n or "nuswide" in n])
def test_recipes_of_the_papers_set_up(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.model.bits == (16, 24, 32, 48)
    assert recipe.model.pretrained
    assert recipe.data.split == "paper"
    assert [stage.train for stage in recipe.stages] == ["heads", "all"]
    arch = recipe.model.arch
    assert torchvision.models.get_model_weights(arch)["DEFAULT"].value.meta["num_params"] > 10**7


def test_what_a_card_holds_of_a_recipe_survives_json(tmp_path: Path) -> None:
    import json

    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert json.loads(json.dumps(read_recipe(path).as_dict()))["model"]["bits"] == [8, 16]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "queries = 8",
            "querys = 8",
            r"data has no entry 'querys'; known are dataset, queries, split, split_seed, training",
        ),
        ("epochs = 3", "epoch = 3", r"stages\[0\] has no entry 'epoch'"),
        ('arch = "', 'architecture = "', "model has no entry 'architecture'"),
        ('name = "mine"', 'name = "mine"\nauthor = "x"', "recipe has no entry 'author'"),
        ("epochs = 3", "", r"stages\[0\].*epochs"),
        ('dataset = "folder"', "", "data.*dataset"),
        ('name = "mine"', "", "recipe.*name"),
        ('train = "heads"', 'train = "tail"', "a stage trains 'heads' or 'all', found .'tail'."),
        ("[[stages]]", "[stages]", "stages"),
        ("[data]", "[date]", "has no entry 'date'"),
        ("[input]", "[input", "cannot be read as a recipe"),
        ("crop = 32", "crop = 320", "input"),
        ("bits = [8, 16]", "bits = []", "bits"),
        ("bits = [8, 16]", "bits = 8", "wrong type"),
        ("bits = [8, 16]", "bits = ['8']", "bits"),
        ("epochs = 3", "epochs = 0", "epochs"),
        ("epochs = 3", "epochs = 'many'", "epochs cannot be 'many'"),
        ("epochs = 3", "epochs = 3\nlearning_rate = '1e-3'", "wrong type"),
        ('[data]\ndataset = "folder"\nqueries = 8', "data = 3", "data must be a table"),
        ("epochs = 3", "epochs = 3\nbatch = 1", "batch"),
        ("bits = [8, 16]", "bits = [8, 16]\nstart = 3", "model.start cannot be 3"),
        ("bits = [8, 16]", "bits = [8, 16]\ntrunk = 3", "model.trunk cannot be 3"),
        ("bits = [8, 16]", "bits = [8, 16]\ntrunk = 'a'\nstart = 'a'", "of which one counts"),
        (
            "bits = [8, 16]",
            "bits = [8, 16]\npretrained = true\nstart = 'a'",
            "of which one counts",
        ),
        ("queries = 8", "queries = 0", "data.queries cannot be 0"),
        ("queries = 8", "queries = 8\ntraining = 1", "data.training cannot be 1"),
        ("queries = 8", "queries = 8\nsplit = 2", "data.split cannot be 2"),
        ("queries = 8", "queries = 8\nsplit_seed = -1", "data.split_seed cannot be -1"),
        ("epochs = 3", "epochs = 3\npad = 4", r"pad without augmented images cannot be 4"),
        ("epochs = 3", "epochs = 3\nadversarial_steps = 2\nadversarial_tau = 0.1", "adversarial_steps without images"),
        ('train = "heads"', 'train = "all"\npad = 4\naugment = false', "pad without augmented images cannot be 4"),
        ("epochs = 3", "epochs = 3\noptimiser = 'adam'", r"stages\[0\].optimiser cannot be 'adam'"),
        ("epochs = 3", "epochs = 3\nwarmup = 3.0", r"stages\[0\].warmup cannot be 3.0"),
        ("epochs = 3", "epochs = 3\nprecision = 'bfloat16'", r"stages\[0\].precision without images"),
        ('train = "heads"', 'train = "all"\nprecision = "half"', r"stages\[0\].precision cannot be 'half'"),
        ('train = "heads"', 'train = "all"\npad = 36', r"stages\[0\].pad cannot be 36"),
        ('train = "heads"', 'train = "all"\npad = -1', "pad cannot be -1"),
        ('train = "heads"', 'train = "all"\nadversarial_steps = 2.0', "adversarial_steps cannot be 2.0"),
        ('train = "heads"', 'train = "all"\nadversarial_steps = 101', "adversarial_steps cannot be 101"),
        ('train = "heads"', 'train = "all"\nadversarial_steps = 2', "adversarial_tau beside 2 steps cannot be 0.0"),
        ('train = "heads"', 'train = "all"\nadversarial_tau = 0.1', "adversarial_tau beside 0 steps cannot be 0.1"),
        ('train = "heads"', 'train = "all"\nadversarial_tau = 2.0', "adversarial_tau cannot be 2.0"),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25, 0.25]", "std"),
    ],
)
def test_a_wrong_entry_is_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert GOOD.count(old) == 1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=says) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_no_stage_is_no_training(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("stages = []\n" + GOOD[: GOOD.index("[[stages]]")])
    with pytest.raises(UsageError, match="no stage"):
        read_recipe(path)


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'lite1'; known are .*lite0-caltech101"):
        read_recipe("lite1")
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        read_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        read_recipe(tmp_path / "binary.toml")


def test_the_example_here_is_toml() -> None:
    assert parse_toml(GOOD)["name"] == "mine"


CONTRAST = (
    GOOD.replace('arch = "shufflenet_v2_x0_5"\nbits = [8, 16]', 'arch = "efficientnet_lite0.copies"\nbits = [256]')
    + "[contrast]\nside = 32\n"
)


def test_a_recipe_with_a_contrast_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(CONTRAST)
    contrast = read_recipe(path).contrast
    assert contrast is not None
    assert (contrast.side, contrast.temperature, contrast.entropy, contrast.memory) == (32, 0.05, 10.0, 2048)
    assert read_recipe(path).as_dict()["contrast"]["side"] == 32
    path.write_text(GOOD)
    assert "contrast" not in read_recipe(path).as_dict(), "older cards still match their recipe"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("side = 32", "side = 33", "contrast.side cannot be 33"),
        ("side = 32", "side = 32\ntemperature = 0", "contrast.temperature cannot be 0"),
        ("side = 32", "side = 32\nentropy = -1", "contrast.entropy cannot be -1"),
        ("side = 32", "side = 32\nedited_copies = 1", "contrast.edited_copies cannot be 1"),
        ("side = 32", "side = 32\nfirst_block = 12", "contrast.first_block cannot be 12"),
        ("side = 32", "side = 32\nmemory = -1", "contrast.memory cannot be -1"),
        ("side = 32", "size = 32", "contrast has no entry 'size'"),
        ('"efficientnet_lite0.copies"', '"efficientnet_lite0"', "model.arch beside a contrast"),
        ("bits = [256]", "bits = [128]", "model.bits beside a contrast"),
        ("bits = [256]", "bits = [256]\nhidden = 8", "model.hidden beside a contrast"),
        ('train = "heads"', 'train = "all"', "a stage trains 'heads' or 'tail', found .'all'."),
        ("epochs = 3", "epochs = 3\ndropout = 0.5", r"stages\[0\].dropout beside a contrast cannot be 0.5"),
        ("epochs = 3", "epochs = 3\naugment = false", r"stages\[0\].augment beside a contrast"),
        ("[[stages]]", "[loss]\nquantisation = 0.2\n[[stages]]", "loss beside a contrast"),
    ],
)
def test_what_a_contrast_cannot_use_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert old in CONTRAST
    path.write_text(CONTRAST.replace(old, new))
    with pytest.raises(UsageError, match=says):
        read_recipe(path)
