from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import official_trees
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import read_checkpoint
from hashshield.datasets import open_dataset
from hashshield.errors import CheckpointError, StorageError, UnknownNameError, UsageError
from hashshield.metrics.retrieval import bits_of, hamming, map_floor, mean_average_precision, relevance
from hashshield.models.hashing import hash_files
from hashshield.models.load import open_models
from hashshield.training.recipe import DataSpec, LossWeights, ModelSpec, Recipe, TrainingStage, read_recipe
from hashshield.training.trainer import Epoch, learning_rate_factor, train
from tiny_net import ARCH, SIZE, encoded

HEADS = TrainingStage("heads", epochs=3, batch=16, learning_rate=5e-3, dropout=0.2)
ALL = TrainingStage("all", epochs=2, batch=16, learning_rate=1e-3, trunk_learning_rate=1e-3)
RECIPE = Recipe(
    name="stripes",
    licence="CC0-1.0",
    attribution="made for this test",
    data=DataSpec("folder", queries=12),
    model=ModelSpec(ARCH, (8, 16)),
    input=SIZE,
    stages=(HEADS,),
    loss=LossWeights(classification=1.0),
)


class Quiet:
    """Collects what is reported, and interrupts after an epoch where asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.epochs: list[Epoch] = []
        self.stop_after = stop_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if epoch.epoch == self.stop_after:
            raise KeyboardInterrupt


class Silent:
    """A bench's progress that nobody watches."""

    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None: ...

    def notice(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes told apart by colour and direction, twelve noisy pictures each."""
    root = tmp_path_factory.mktemp("classes")
    generator = np.random.default_rng(0)
    ramp = np.linspace(60, 200, 40)
    for index, name in enumerate(("down", "grey", "left", "red")):
        (root / name).mkdir()
        for number in range(12):
            pixels = np.full((40, 40, 3), 128.0)
            if name == "down":
                pixels[...] = ramp[:, None, None]
            if name == "left":
                pixels[...] = ramp[None, ::-1, None]
            if name == "red":
                pixels[..., 0] = 220
            pixels += generator.normal(0, 12, pixels.shape) + generator.normal(0, 8)
            data = encoded(np.clip(pixels, 0, 255).astype(np.uint8))
            (root / name / f"{index}-{number}.png").write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def _same_random_state_for_all() -> Iterator[None]:
    import torch

    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)


def run(recipe: Recipe, folder: Path, output: Path, **options: bool | int) -> tuple[Card, Quiet]:
    reporter = Quiet()
    card = train(recipe, data=folder, output=output, device="cpu", reporter=reporter, **options)  # type: ignore[arg-type]
    return card, reporter


def test_a_small_training_learns(folder: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, stages=(replace(ALL, epochs=6, augment=False), replace(HEADS, epochs=20)))
    output = tmp_path / "new" / "stripes.safetensors"
    card, reporter = run(recipe, folder, output)
    assert [p.name for p in output.parent.iterdir()] == [output.name], "the state is removed at the end"
    assert card == read_card(output), "what is returned is what is stored"
    assert card.classes == ("down", "grey", "left", "red")
    assert card.split["database"] == 36
    assert card.recipe["seed"] == 0
    assert card.map.keys() == card.map_unseen.keys() == {"8", "16"}
    assert [e.epoch for e in reporter.epochs] == list(range(1, 27))
    assert {e.epochs for e in reporter.epochs} == {26}
    heads = [e.loss for e in reporter.epochs if e.stage == 1]
    assert heads[-1] < 0.7 * heads[0]
    # The figure in the card, measured anew from the file.
    files = open_dataset("folder", folder)
    split = files.split(queries=12, seed=0)
    (model,) = open_models([f"{output}:16"])
    bits = bits_of(hash_files([model.model], card.input, [files.root / p for p in files.paths])[0])
    relevant = relevance(files.labels[split.queries], files.labels[split.database])
    found = mean_average_precision(hamming(bits[split.queries], bits[split.database]), relevant)
    assert found == pytest.approx(card.map["16"], abs=1e-4)
    assert found > map_floor(relevant).random + 0.35
    # Anchors are the component vote over the database.
    assert model.anchors is not None
    for row, anchor in enumerate(model.anchors.numpy()):
        members = bits[split.database][files.labels[split.database][:, row]]
        assert (anchor == np.where(members.astype(int).sum(0) > 0, 1, -1)).all()


@pytest.mark.parametrize(
    ("stages", "stop"),
    [
        ((HEADS,), 2),
        ((HEADS, replace(HEADS, epochs=2)), 3),
        ((HEADS, replace(HEADS, epochs=2)), 4),
        ((ALL,), 1),
        ((HEADS, ALL), 3),
        ((HEADS, ALL), 4),
        ((ALL, HEADS), 3),
        ((replace(ALL, pad=3, adversarial_steps=1, adversarial_tau=0.03),), 1),
        ((replace(ALL, optimiser="sgd", warmup=1.5, precision="bfloat16"),), 1),
    ],
)
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    stages: tuple[TrainingStage, ...], stop: int, folder: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, stages=stages)
    straight, cut = tmp_path / "straight.safetensors", tmp_path / "cut.safetensors"
    run(recipe, folder, straight)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data=folder, output=cut, device="cpu", reporter=Quiet(stop))
    assert not cut.exists()
    _, rest = run(recipe, folder, cut, resume=True)
    assert rest.epochs[0].epoch == stop + 1
    one, other = read_checkpoint(straight), read_checkpoint(cut)
    assert [k for k, v in one.weights.items() if not v.equal(other.weights[k])] == []
    assert straight.read_bytes() == cut.read_bytes()


def test_a_seed_gives_one_result_and_another_seed_another(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        run(replace(RECIPE, stages=(replace(HEADS, epochs=1),)), folder, path, seed=seed)
    one, again, other = (path.read_bytes() for path in paths)
    assert one == again
    assert one != other


def test_a_start_is_where_training_goes_on_from(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run(RECIPE, folder, first)
    still = replace(RECIPE, stages=(replace(HEADS, epochs=1, learning_rate=1e-12),))
    run(replace(still, model=replace(RECIPE.model, start=str(first))), folder, second)
    one, other = read_checkpoint(first), read_checkpoint(second)
    for key, value in one.weights.items():
        # Standardised and folded again, and rounded to float16 again.
        assert other.weights[key].allclose(value, rtol=5e-3, atol=5e-3), key
        if key.startswith("trunk."):
            assert other.weights[key].equal(value), key
    anew = tmp_path / "anew.safetensors"
    run(still, folder, anew, seed=1)
    assert not read_checkpoint(anew).weights["heads.8.weight"].allclose(one.weights["heads.8.weight"], atol=5e-3)


@pytest.mark.parametrize(
    ("model", "start", "error", "says"),
    [
        (ModelSpec(ARCH, (8,)), "tiny", CheckpointError, r"tiny\.safetensors: its tensors do not fit the recipe"),
        (
            ModelSpec(ARCH, (16, 24), hidden=4),
            "tiny",
            CheckpointError,
            "same architecture, code lengths and hidden width",
        ),
        (ModelSpec("shufflenet_v2_x1_0", (16, 24)), "tiny", CheckpointError, "do not fit the recipe"),
        (ModelSpec(ARCH, (8,)), "nowhere.safetensors", CheckpointError, "no such checkpoint file"),
        (ModelSpec(ARCH, (8,)), "lite00-caltech101", UnknownNameError, "did you mean lite0-caltech101"),
    ],
)
def test_a_start_that_does_not_fit(
    model: ModelSpec, start: str, error: type[Exception], says: str, folder: Path, tiny: Path, tmp_path: Path
) -> None:
    start = str(tiny) if start == "tiny" else start
    with pytest.raises(error, match=says):
        run(replace(RECIPE, model=replace(model, start=start)), folder, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_trunk_is_taken_over_and_the_heads_are_new(folder: Path, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    model = ModelSpec(ARCH, (8,), hidden=12, trunk=str(tiny))
    run(replace(RECIPE, model=model, stages=(replace(HEADS, epochs=1),)), folder, output)
    theirs, ours = read_checkpoint(tiny).weights, read_checkpoint(output).weights
    trunk = {key for key in theirs if key.startswith("trunk.")}
    assert trunk == {key for key in ours if key.startswith("trunk.")}
    assert [key for key in trunk if not theirs[key].equal(ours[key])] == []
    assert {key for key in ours if key not in trunk} == {
        *("neck.0.weight", "neck.0.bias", "heads.8.weight", "heads.8.bias")
    }
    assert read_card(output).recipe["model"]["trunk"] == str(tiny)


def test_a_trunk_that_does_not_fit(folder: Path, tiny: Path, tmp_path: Path) -> None:
    model = ModelSpec("shufflenet_v2_x1_0", (8,), trunk=str(tiny))
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors.*start from a checkpoint of the same architecture$"):
        run(replace(RECIPE, model=model), folder, tmp_path / "a.safetensors")
    size = replace(SIZE, mean=(0.4, 0.5, 0.5))
    with pytest.raises(UsageError, match=r"reads images with mean \(0\.5, 0\.5, 0\.5\).*take over the former"):
        run(
            replace(RECIPE, model=ModelSpec(ARCH, (8,), trunk=str(tiny)), input=size),
            folder,
            tmp_path / "a.safetensors",
        )


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_the_recipe_for_own_photos_runs_on_what_is_there(kind: str, tmp_path: Path) -> None:
    root, output = tmp_path / "photos", tmp_path / "mine.safetensors"
    lines = ["path,labels"]
    for index in range(12):
        path = root / ("light" if index % 2 else "dark") / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(official_trees.colour([index % 2 * 15], index))
        lines.append(f"{path.relative_to(root)},{path.parent.name}{';third' if index % 3 == 0 else ''}")
    (root / "labels.csv").write_text("\n".join(lines))
    plan = read_recipe("own")
    plan = replace(plan, data=replace(plan.data, queries=4), stages=(replace(plan.stages[0], epochs=2),))
    card, _ = run(plan, root if kind == "folder" else root / "labels.csv", output)
    assert card.classes == (("dark", "light") if kind == "folder" else ("dark", "light", "third"))
    assert card.split["queries"] == 4
    assert [m.bits for m in open_models([f"{output}:16", str(output)])] == [16, 48]


def test_padding_and_an_adversary_change_what_is_learnt(folder: Path, tmp_path: Path) -> None:
    stages = (ALL, replace(ALL, pad=4), replace(ALL, adversarial_steps=2, adversarial_tau=0.05))
    weights, losses = [], []
    for number, stage in enumerate(stages):
        path = tmp_path / f"{number}.safetensors"
        _, reporter = run(replace(RECIPE, stages=(replace(stage, epochs=1),)), folder, path)
        weights.append(read_checkpoint(path).weights["heads.16.weight"])
        losses.append(reporter.epochs[0].loss)
    plain, padded, hard = weights
    assert not plain.equal(padded)
    assert not plain.equal(hard)
    assert losses[2] > losses[0]


def test_the_learning_rate_climbs_and_falls() -> None:
    stage = TrainingStage("all", epochs=4, warmup=1.5)
    plain = [learning_rate_factor(epoch, epoch + 0.5, replace(stage, warmup=0.0)) for epoch in range(4)]
    assert plain == pytest.approx([1.0, 0.01 + 0.99 * (1 + 0.5**0.5) / 2, 0.505, 0.01 + 0.99 * (1 - 0.5**0.5) / 2])
    assert learning_rate_factor(0, 0.15, stage) == pytest.approx(0.1)
    assert learning_rate_factor(1, 1.2, stage) == pytest.approx(0.8 * plain[1])
    assert learning_rate_factor(1, 1.6, stage) == plain[1]


def test_half_precision_and_the_optimiser_change_what_is_learnt_a_little(folder: Path, tmp_path: Path) -> None:
    weights, losses = [], []
    for number, stage in enumerate((ALL, replace(ALL, precision="bfloat16"), replace(ALL, optimiser="sgd"))):
        path = tmp_path / f"{number}.safetensors"
        card, reporter = run(replace(RECIPE, stages=(replace(stage, epochs=1),)), folder, path)
        weights.append(read_checkpoint(path).weights["heads.16.weight"])
        losses.append(reporter.epochs[0].loss)
    plain, half, other = weights
    assert not plain.equal(half)
    assert half.allclose(plain, atol=0.02)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert not other.equal(plain)
    assert card.recipe["stages"][0]["optimiser"] == "sgd"
    assert "precision" not in card.recipe["stages"][0]


def test_queries_of_an_official_test_part(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "cifar10"
    for part, numbers in (("test", range(4)), ("train", range(4, 12))):
        for old, new in (("down", "airplane"), ("grey", "bird"), ("left", "cat"), ("red", "truck")):
            (root / part / new).mkdir(parents=True)
            for path in sorted((folder / old).iterdir()):
                if int(path.stem.partition("-")[2]) in numbers:
                    (root / part / new / path.name).write_bytes(path.read_bytes())
    recipe = replace(RECIPE, data=DataSpec("cifar10", queries=10), stages=(replace(HEADS, epochs=1),))
    card, _ = run(recipe, root, tmp_path / "a.safetensors")
    assert card.split["database"] == 32
    assert card.split["queries"] == 10
    assert "official test part" in card.split["protocol"]


@pytest.mark.parametrize(
    ("dataset", "data"),
    [
        ("flickr25k", DataSpec("flickr25k", queries=20, split="paper")),
        ("flickr25k", DataSpec("flickr25k", queries=17, training=30, split="1700-5000")),
        ("nuswide", DataSpec("nuswide", queries=20, split="paper")),
        ("nuswide", DataSpec("nuswide", queries=21, training=42, split="tc21")),
    ],
)
def test_datasets_of_several_labels_by_their_protocols(dataset: str, data: DataSpec, tmp_path: Path) -> None:
    from hashshield.bench.config import MapConfig
    from hashshield.bench.retrieval import run_map

    root, output = tmp_path / "data", tmp_path / "a.safetensors"
    {"flickr25k": official_trees.flickr, "nuswide": official_trees.nuswide}[dataset](root)
    card, _ = run(replace(RECIPE, data=data, stages=(replace(HEADS, epochs=1),)), root, output)
    split = open_dataset(dataset, root, split=data.split).split(seed=0, queries=data.queries, training=data.training)
    assert card.split["name"] == data.split
    assert card.split["queries"] == data.queries == len(split.queries)
    assert card.split["database"] == len(split.database)
    assert card.split.get("training", len(split.database)) == len(split.training)
    assert card.split["protocol"] == split.protocol
    assert len(card.classes) == {"flickr25k": 38, "nuswide": 21 if data.split == "tc21" else 81}[dataset]
    rows = run_map(MapConfig(models=(f"{output}:16",), data=root, device="cpu"), Silent())
    assert rows[0]["map"] == pytest.approx(card.map["16"], abs=1e-4)
    assert (rows[0]["queries"], rows[0]["database"]) == (len(split.queries), len(split.database))
    assert card.map["16"] > rows[0]["map_lowest"]


@pytest.mark.parametrize("stage", [HEADS, replace(ALL, augment=False)])
def test_only_the_training_part_is_learnt_from(stage: TrainingStage, tmp_path: Path) -> None:
    data = DataSpec("flickr25k", queries=17, training=30, split="1700-5000")
    recipe = replace(RECIPE, data=data, stages=(replace(stage, epochs=1),))
    weights = []
    for turn in range(2):
        root = tmp_path / f"{turn}"
        official_trees.flickr(root)
        files = open_dataset("flickr25k", root, split="1700-5000")
        split = files.split(seed=0, queries=17, training=30)
        for index in set(range(len(files.paths))) - set(split.training) if turn else ():
            (files.root / files.paths[index]).write_bytes(official_trees.colour([index % 38], 1000 + index))
        run(recipe, root, tmp_path / f"{turn}.safetensors")
        weights.append(read_checkpoint(tmp_path / f"{turn}.safetensors").weights)
    assert [key for key, value in weights[0].items() if not value.equal(weights[1][key])] == []


def test_a_state_of_another_training_is_refused(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data=folder, output=output, device="cpu", reporter=Quiet(1))
    for recipe, seed in ((RECIPE, 1), (replace(RECIPE, name="other"), 0)):
        with pytest.raises(UsageError, match="belongs to another recipe or seed; remove it"):
            run(recipe, folder, output, resume=True, seed=seed)
    state = output.with_name("a.safetensors.state")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UsageError, match="cannot be resumed"):
        run(RECIPE, folder, output, resume=True)


def test_without_resume_a_state_left_over_does_not_count(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data=folder, output=output, device="cpu", reporter=Quiet(2))
    _, reporter = run(RECIPE, folder, output)
    assert [e.epoch for e in reporter.epochs] == [1, 2, 3]


def test_resume_with_nothing_to_resume_starts(folder: Path, tmp_path: Path) -> None:
    _, reporter = run(RECIPE, folder, tmp_path / "a.safetensors", resume=True)
    assert [e.epoch for e in reporter.epochs] == [1, 2, 3]


def test_an_output_that_cannot_be_written_is_told_before_the_training(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "o.safetensors", tmp_path / f"{'x' * 240}.safetensors"):
        quiet = Quiet()
        with pytest.raises(UsageError, match="--output"):
            train(RECIPE, data=folder, output=output, reporter=quiet)
        assert quiet.notes == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_state_that_cannot_be_written_is_a_failure_with_advice(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.safetensors"
    (tmp_path / "o.safetensors.state").mkdir()
    with pytest.raises(StorageError, match="continue with --resume"):
        train(RECIPE, data=folder, output=output, reporter=Quiet())


def test_no_photo_is_taken_for_the_place_of_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "photo.png"
    output.write_bytes(next(folder.rglob("*.png")).read_bytes())
    before = output.read_bytes()
    with pytest.raises(UsageError, match="exists and is no checkpoint"):
        run(RECIPE, folder, output)
    assert output.read_bytes() == before
