"""Recipes: everything a training needs except the data, read from TOML.

The module also has what all trainings share: the progress they report and their learning rate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hashshield.checkpoints.card import InputSpec
from hashshield.errors import UnknownNameError, UsageError
from hashshield.paths import is_file
from hashshield.text import did_you_mean, read_toml

__all__ = [
    "ContrastSpec",
    "DataSpec",
    "Epoch",
    "LossWeights",
    "ModelSpec",
    "Recipe",
    "Reporter",
    "TrainingStage",
    "learning_rate_factor",
    "read_recipe",
    "recipe_names",
]

_RECIPES = Path(__file__).parent / "recipes"
T = TypeVar("T")
_OMITTED_IF_EMPTY = {"data": ("queries", "split", "training"), "model": ("trunk",)}
"""Entries added later, by table; omitted if empty, so that older cards and states still match their recipe."""
_STAGE_DEFAULTS_OMITTED = {"optimiser": "adamw", "warmup": 0.0, "precision": "float32"}
"""Entries of a stage added later; omitted if they have these values, for the same reason."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    """The dataset, and how it is split."""

    dataset: str
    queries: int | None = None
    """Number of query photos. None: the split's own, or 500 if no split is named."""
    split_seed: int = 0
    split: str | None = None
    """One of the dataset's published splits, by name."""
    training: int | None = None
    """Number of photos of the database to train on. None: the split's own, or all if no split is named."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The network, and the weights it starts from."""

    arch: str
    bits: tuple[int, ...]
    pretrained: bool = False
    hidden: int = 0
    """Width of the layer between features and codes; 0 for none."""
    start: str = ""
    """A checkpoint of the same architecture, code lengths and hidden width to start from; empty for none."""
    trunk: str = ""
    """A checkpoint of the same architecture to take only the trunk from; empty for none."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the loss terms, relative to the pairwise likelihood."""

    positive_share: float = 0.5
    """Share of the pairwise likelihood that similar pairs make up, 0 to 1."""
    quantisation: float = 0.1
    classification: float = 0.0


@dataclass(frozen=True, slots=True)
class ContrastSpec:
    """Settings of a copy detector's training: copies of the same photo attract, copies of others repel each other."""

    side: int
    """Pixels to which edited photos are squashed for training; the card's input may be larger."""
    temperature: float = 0.05
    entropy: float = 10.0
    """Weight of the entropy term, relative to the contrast."""
    memory: int = 2048
    """Number of embeddings of earlier batches that repel too; 0 for none."""
    edited_copies: int = 5
    """Number of edited copies of each photo whose features a "heads" stage learns from."""
    first_block: int = 8
    """First block of the trunk that a "tail" stage trains."""


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """A number of epochs with one optimiser and one set of trained layers."""

    train: str
    """"heads" trains neck and code layers on features computed once; "all" trains everything on images. With a contrast
    "heads" trains the embedding alone, and "tail" the embedding and the last blocks on edited copies."""
    epochs: int
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    dropout: float = 0.0
    trunk_learning_rate: float | None = None
    augment: bool = True
    """With "all": random crop and horizontal flip."""
    pad: int = 0
    """With `augment`: pixels reflected around the resized photo before the random crop."""
    adversarial_steps: int = 0
    """With "all": gradient steps of the attack on each batch before training on it; 0 for none."""
    adversarial_tau: float = 0.0
    """Bound of that attack, in [0, 1] units."""
    optimiser: str = "adamw"
    """Or "sgd", with Nesterov momentum 0.9, which needs a learning rate about ten times as high."""
    warmup: float = 0.0
    """Epochs over which the learning rate climbs to its full value."""
    precision: str = "float32"
    """Or "bfloat16", with "all": the trunk computes in half precision, which is faster on processors that support it;
    weights, code layers and losses stay float32."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A complete training."""

    name: str
    licence: str
    attribution: str
    data: DataSpec
    model: ModelSpec
    input: InputSpec
    stages: tuple[TrainingStage, ...]
    loss: LossWeights = field(default_factory=LossWeights)
    contrast: ContrastSpec | None = None
    """For a copy detector, which learns without labels; None for a network of semantic codes."""

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready values, for the card; entries added later are omitted at their defaults."""
        raw = asdict(self)
        if self.contrast is None:
            del raw["contrast"]
        for part, names in _OMITTED_IF_EMPTY.items():
            raw[part] = {key: value for key, value in raw[part].items() if value or key not in names}
        for stage in raw["stages"]:
            for name, value in _STAGE_DEFAULTS_OMITTED.items():
                if stage[name] == value:
                    del stage[name]
        return raw


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package, sorted."""
    return tuple(sorted(p.stem for p in _RECIPES.glob("*.toml")))


def read_recipe(source: str | Path) -> Recipe:
    """Read a recipe of the package by name, or from a TOML file.

    Raises UnknownNameError, and UsageError naming the entry that is wrong.
    """
    path = Path(source)
    if path.suffix != ".toml":
        path = _RECIPES / f"{source}.toml"
        if not is_file(path):
            suggestion = did_you_mean(str(source), recipe_names(), quoted=True)
            known = f"known are {', '.join(recipe_names())}, or a .toml file"
            raise UnknownNameError(
                f"unknown recipe {str(source)!r}; {f'{suggestion} {known}' if suggestion else known}"
            )
    try:
        raw = read_toml(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a recipe ({error})") from error
    try:
        stages = tuple(_make(TrainingStage, entry, f"stages[{i}]", path) for i, entry in enumerate(raw.pop("stages")))
        parts = {name: _make(kind, raw.pop(name), name, path) for name, kind in _PARTS.items() if name in raw}
        recipe = _make(Recipe, {**raw, **parts, "stages": stages}, "recipe", path)
    except KeyError as error:
        raise UsageError(f"{path}: the recipe lacks {error}") from error
    kinds = ("heads", "all") if recipe.contrast is None else ("heads", "tail")
    wrong = [s.train for s in recipe.stages if s.train not in kinds]
    if wrong or not recipe.stages:
        raise UsageError(f"{path}: a stage trains {kinds[0]!r} or {kinds[1]!r}, found {wrong or 'no stage'}")
    try:
        fault = _fault(recipe) or (_contrast_fault(recipe, recipe.contrast) if recipe.contrast else None)
    except TypeError as error:
        raise UsageError(f"{path}: a value of the recipe has the wrong type ({error})") from error
    if fault:
        raise UsageError(f"{path}: {fault}")
    return recipe


def _fault(recipe: Recipe) -> str | None:
    """Return the first value that would make the training fail hours later, in words, or None. Raises TypeError."""
    model, data, size = recipe.model, recipe.data, recipe.input
    origins = (model.start, model.trunk, model.pretrained)
    rules = [
        ("model.bits", model.bits, model.bits and all(isinstance(k, int) and 1 <= k <= 4096 for k in model.bits)),
        ("model.hidden", model.hidden, _whole(model.hidden, 0)),
        ("model.start", model.start, isinstance(model.start, str)),
        ("model.trunk", model.trunk, isinstance(model.trunk, str)),
        ("model.start, trunk and pretrained, of which one counts,", origins, sum(map(bool, origins)) <= 1),
        ("data.queries", data.queries, data.queries is None or _whole(data.queries, 1)),
        ("data.training", data.training, data.training is None or _whole(data.training, 2)),
        ("data.split", data.split, data.split is None or isinstance(data.split, str)),
        ("data.split_seed", data.split_seed, _whole(data.split_seed, 0)),
        ("loss.positive_share", recipe.loss.positive_share, 0 <= recipe.loss.positive_share <= 1),
    ]
    for index, stage in enumerate(recipe.stages):
        where, on_images, steps = f"stages[{index}]", stage.train == "all", stage.adversarial_steps
        # A pairwise loss needs two photos.
        rules += [
            (f"{where}.epochs", stage.epochs, _whole(stage.epochs, 1)),
            (f"{where}.batch", stage.batch, _whole(stage.batch, 2)),
            (f"{where}.learning_rate", stage.learning_rate, stage.learning_rate > 0),
            (f"{where}.dropout", stage.dropout, 0 <= stage.dropout < 1),
            (f"{where}.pad", stage.pad, _whole(stage.pad, 0) and stage.pad < size.resize),
            (f"{where}.adversarial_steps", steps, _whole(steps, 0) and steps <= 100),
            (f"{where}.optimiser", stage.optimiser, stage.optimiser in ("adamw", "sgd")),
            (f"{where}.warmup", stage.warmup, _whole(stage.epochs, 1) and 0 <= stage.warmup < stage.epochs),
            (f"{where}.precision", stage.precision, stage.precision in ("float32", "bfloat16")),
            (
                f"{where}.precision without images",
                stage.precision,
                stage.precision == "float32" or on_images or recipe.contrast is not None,
            ),
            (f"{where}.adversarial_tau", stage.adversarial_tau, 0 <= stage.adversarial_tau <= 1),
            # A setting that a stage would ignore is an error: its results would be attributed to that setting.
            (f"{where}.pad without augmented images", stage.pad, not stage.pad or (on_images and stage.augment)),
            (f"{where}.adversarial_steps without images", steps, not steps or on_images),
            (
                f"{where}.adversarial_tau beside {steps} steps",
                stage.adversarial_tau,
                (stage.adversarial_tau > 0) == (steps > 0),
            ),
        ]
    bad = next((f"{name} cannot be {value!r}" for name, value, good in rules if not good), None)
    return bad or size.fault()


def _contrast_fault(recipe: Recipe, contrast: ContrastSpec) -> str | None:
    """Return the first value that a training by contrast cannot use, in words, or None. Raises TypeError."""
    rules = [
        ("model.arch beside a contrast", recipe.model.arch, recipe.model.arch.endswith(".copies")),
        ("model.bits beside a contrast", recipe.model.bits, recipe.model.bits == (256,)),
        ("model.hidden beside a contrast", recipe.model.hidden, recipe.model.hidden == 0),
        ("model.trunk beside a contrast", recipe.model.trunk, not recipe.model.trunk),
        ("loss beside a contrast", recipe.loss, recipe.loss == LossWeights()),
        ("contrast.side", contrast.side, _whole(contrast.side, 32) and contrast.side <= recipe.input.crop),
        ("contrast.temperature", contrast.temperature, 0 < contrast.temperature <= 1),
        ("contrast.entropy", contrast.entropy, contrast.entropy >= 0),
        ("contrast.memory", contrast.memory, _whole(contrast.memory, 0)),
        ("contrast.edited_copies", contrast.edited_copies, _whole(contrast.edited_copies, 2)),
        ("contrast.first_block", contrast.first_block, _whole(contrast.first_block, 0) and contrast.first_block <= 11),
    ]
    plain = TrainingStage("heads", 1)
    for index, stage in enumerate(recipe.stages):
        rules += [
            (f"stages[{index}].{name} beside a contrast", value, value == getattr(plain, name))
            for name in ("dropout", "augment", "pad", "adversarial_steps")
            if (value := getattr(stage, name)) is not None
        ]
    return next((f"{name} cannot be {value!r}" for name, value, good in rules if not good), None)


def _whole(value: object, least: int) -> bool:
    """Return True for an int of at least `least`."""
    return isinstance(value, int) and value >= least


_PARTS: dict[str, type[Any]] = {
    "data": DataSpec,
    "model": ModelSpec,
    "input": InputSpec,
    "loss": LossWeights,
    "contrast": ContrastSpec,
}
"""The tables of a recipe besides its stages."""


def _make(kind: type[T], values: Any, where: str, path: Path) -> T:
    """Build a dataclass from the table `where` of the recipe at `path`. Raises UsageError naming the wrong entry."""
    if not isinstance(values, dict):
        raise UsageError(f"{path}: {where} must be a table, found {values!r}")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    unknown = sorted(values.keys() - known)
    if unknown:
        raise UsageError(f"{path}: {where} has no entry {unknown[0]!r}; known are {', '.join(sorted(known))}")
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**frozen)
    except TypeError as error:
        raise UsageError(f"{path}: {where}: {error}") from error


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one epoch."""

    stage: int
    """Index of the stage, from 0."""
    epoch: int
    """Epochs finished so far, over all stages."""
    epochs: int
    """Epochs of all stages together."""
    loss: float
    map: float | None
    """MAP of queries against the database at the longest code, by the current features; None if not measured."""
    seconds: float


class Reporter(Protocol):
    """A listener to the progress of a training."""

    def note(self, text: str) -> None:
        """Report what is being done, in one line."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """Report a finished epoch."""
        ...


def learning_rate_factor(epoch: int, elapsed: float, stage: TrainingStage) -> float:
    """Return the factor on the learning rate: a cosine over the epochs from 1 to 0.01, climbing during the warm-up.

    `elapsed` counts epochs with the finished part of the current one.
    """
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * epoch / stage.epochs)) / 2
    return cosine * min(1.0, elapsed / stage.warmup) if stage.warmup else cosine
