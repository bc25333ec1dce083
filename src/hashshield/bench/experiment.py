"""An experiment: the networks of one checkpoint, its dataset's codes, the queries to attack, and their targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.arrays import Bits, Features, Indices, Labels, Pixels, RelaxedCodes
from hashshield.bench.config import ANCHOR_PHOTOS, BenchConfig
from hashshield.bench.results import BenchResult, TrialCache, environment, recording
from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.catalog import resolve
from hashshield.datasets import LabelledFiles, Split, open_dataset
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of, relevance
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import displayed_rgb, feature_files, hash_files
from hashshield.models.load import OpenModel, open_checkpoint, open_models
from hashshield.pipeline.targets import refuse_foreign
from hashshield.types import Progress

__all__ = [
    "GIVEN_CODES",
    "CodeSet",
    "Experiment",
    "Targets",
    "anchor_codes",
    "database_features",
    "draw_targets",
    "lengths_of",
    "mainstay_codes",
    "open_experiment",
    "open_protocol",
]

GIVEN_CODES = "searches for given codes"
"""What an imported network without research purpose is refused for, in words; it may only serve `away`."""
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class CodeSet:
    """Labelled codes of N photos: the queries, or the database."""

    labels: Labels
    """(N, L)"""
    codes: dict[int, RelaxedCodes]
    """(N, K) by code length K."""

    def bits(self, length: int) -> Bits:
        """Return the (N, K) bits in {-1, +1}."""
        return bits_of(self.codes[length])


@dataclass(frozen=True, eq=False)
class Experiment:
    """What the benches on a labelled dataset share."""

    models: tuple[OpenModel, ...]
    """Code lengths of one checkpoint, ascending."""
    digest: str
    """SHA-256 of the checkpoint file."""
    files: LabelledFiles
    split: Split
    queries: CodeSet
    database: CodeSet
    picked: Indices
    """(n,) rows of `queries` to attack, in random order."""
    cache: TrialCache
    config: BenchConfig

    @property
    def seed(self) -> int:
        """Seed of all random draws."""
        return self.config.seed

    @property
    def name(self) -> str:
        """Name of the checkpoint, without a length."""
        return self.models[0].card.name

    @property
    def lengths(self) -> tuple[int, ...]:
        """Code lengths, ascending."""
        return tuple(model.bits for model in self.models)

    @property
    def labels(self) -> Labels:
        """(n, L) labels of the picked queries."""
        return self.queries.labels[self.picked]

    @cached_property
    def photos(self) -> list[Pixels]:
        """Upright (H, W, 3) pixels of the picked queries, in their order."""
        return [_pixels(self.query_path(int(row))) for row in self.picked]

    def model(self, length: int) -> OpenModel:
        """Return the network of that code length."""
        return next(model for model in self.models if model.bits == length)

    def original_bits(self, length: int) -> Bits:
        """Return the (n, K) bits of the picked queries before any change."""
        return self.queries.bits(length)[self.picked]

    def query_path(self, row: int) -> Path:
        """Return the file of a row of `queries`."""
        return self.files.root / self.files.paths[int(self.split.queries[row])]

    def recording(
        self, bench: str, *, searches: Iterable[str] = (), **settings: Any
    ) -> AbstractContextManager[BenchResult]:
        """Write the result file of a bench at the end of the context; see `results.recording` and `environment`."""
        return recording(bench, self.name, self.config.output, self._environment(searches=searches, **settings))

    def _environment(self, **settings: Any) -> dict[str, Any]:
        card = self.models[0].card
        return environment(
            checkpoint=self.name,
            checkpoint_sha256=self.digest,
            bits=list(self.lengths),
            dataset=self.files.name,
            split=f"{self.split.protocol}; seed {card.split['seed']}",
            queries=len(self.split.queries),
            database=len(self.split.database),
            attacked=len(self.picked),
            seed=self.seed,
            rnm_steps=self.config.steps,
            relevance="the same class" if bool((self.files.labels.sum(1) == 1).all()) else "at least one shared label",
            ranking="average precision over the full ranking (N is the size of the gallery)",
            ties="the expected average precision over all orders of equal distances",
            unseen_gallery="the other queries of the split, which were not trained on",
            index="unchanged queries look for the changed photos of their kind; other photos of it are left out",
            **settings,
        )


def open_experiment(config: BenchConfig, progress: Progress, *, goals: Sequence[str] = ()) -> Experiment:
    """Open networks and dataset, and hash the dataset unless its codes are cached.

    `goals` are those of the searches to come, by kind or as `GIVEN_CODES`. Raise UsageError, CheckpointError, and
    GoalError for a network that may not serve one of them.
    """
    keep_freed_memory()
    names = lengths_of(config.models)
    sha256 = digest_of(resolve(names[0]).path)
    models = tuple(sorted(open_models(names, device=choose_device(config.device)), key=lambda model: model.bits))
    for goal in goals:
        refuse_foreign(models, goal)
    files, split = open_protocol(models[0], config.data)
    cache = TrialCache(config.output / "runs")
    queries, database = (_code_set(models, sha256, files, r, cache, progress) for r in (split.queries, split.database))
    picked = np.searchsorted(split.queries, split.sample(config.queries, seed=config.seed))
    return Experiment(models, sha256, files, split, queries, database, picked, cache, config)


def open_protocol(model: OpenModel, data: Path) -> tuple[LabelledFiles, Split]:
    """Open the dataset and split that a checkpoint's card names. Raise UsageError."""
    named = model.card.split
    files = open_dataset(model.card.dataset, data, split=named.get("name"))
    return files, files.split(seed=named["seed"], queries=named["queries"], training=named.get("training"))


def lengths_of(names: Sequence[str]) -> list[str]:
    """Return names of networks: `checkpoint` becomes one name per code length, `checkpoint:bits` is kept.

    Raise UsageError for several checkpoints, UnknownNameError, CheckpointError.
    """
    found: list[str] = []
    for name in names:
        reference = resolve(name)
        if reference.bits is None:
            _, checkpoint = open_checkpoint(name)
            found += [f"{name}:{bits}" for bits in checkpoint.card.bits]
        else:
            found.append(name)
    files = {resolve(name).path for name in found}
    if len(files) > 1:
        raise UsageError(
            f"a bench takes lengths of one checkpoint, found {len(files)} ({', '.join(names)}); run it for each"
        )
    return found


def database_features(experiment: Experiment, progress: Progress) -> Features:
    """Return the (N, D) features of the database, cached like its codes."""
    opened = experiment.models[0]
    rows = experiment.split.database
    paths = [experiment.files.root / experiment.files.paths[i] for i in rows]
    settings = {
        "features": experiment.digest,
        "files": [[experiment.files.paths[i], _size(path)] for i, path in zip(rows, paths, strict=True)],
        "device": opened.device.type,
    }
    table = experiment.cache.table(settings)
    if table is None:
        progress.start(-(-len(paths) // _BATCH))
        progress.photo(f"features of {len(paths)} photos, once")
        features = feature_files(
            opened.model, opened.card.input, paths, batch_size=_BATCH, tick=lambda _count: progress.done(None)
        )
        table = {"features": features}
        experiment.cache.keep_table(settings, **table)
    return table["features"]


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The paper's target for each of n picked queries: photos that share no label with the query."""

    labels: Labels
    """(n, L) label set of the target."""
    members: Indices
    """(n, anchor) rows of the database with exactly that label set; the first is the target of P2P."""

    def point(self, database: CodeSet, length: int) -> Bits:
        """Return the (n, K) codes of one target photo each (P2P)."""
        return database.bits(length)[self.members[:, 0]]

    def anchor(self, database: CodeSet, length: int) -> Bits:
        """Return the (n, K) bitwise majorities over the members (P2S; DHTA, Bai et al. 2020)."""
        return bits_of(database.bits(length)[self.members].astype(np.float32).sum(axis=1))


def draw_targets(experiment: Experiment, *, anchor: int = ANCHOR_PHOTOS) -> Targets:
    """Draw, for each picked query, a label set without labels of the query, and `anchor` of its members.

    Members are drawn without replacement. If every photo has a single label, every class must have `anchor` photos;
    otherwise only label sets with that many take part. Raise UsageError if there are too few.
    """
    sets, which = np.unique(experiment.database.labels, axis=0, return_inverse=True)
    which = which.reshape(-1)
    sizes = np.bincount(which, minlength=len(sets))
    single = bool((experiment.database.labels.sum(axis=1) == 1).all())
    if single and int(sizes.min()) < anchor:
        name = experiment.files.classes[int(sets[sizes.argmin()].argmax())]
        raise UsageError(
            f"{experiment.files.root}: class {name} has {sizes.min()} photos in the database and an anchor takes "
            f"{anchor}; add photos, leave the class out, or take a smaller --anchor"
        )
    # A photo without labels cannot be a target.
    usable = (sizes >= anchor) & sets.any(axis=1)
    generator = np.random.default_rng([experiment.seed, 1])
    labels, members = [], []
    for row in experiment.picked:
        candidates = np.flatnonzero(usable & ~(sets & experiment.queries.labels[row]).any(axis=1))
        if not len(candidates):
            raise UsageError(
                f"{experiment.query_path(int(row))}: no label set without a label of this photo has the {anchor} "
                f"photos that an anchor takes (the largest has {int(sizes.max())}); take a smaller --anchor"
            )
        chosen = int(generator.choice(candidates))
        labels.append(sets[chosen])
        members.append(generator.permutation(np.flatnonzero(which == chosen))[:anchor])
    return Targets(np.stack(labels), np.stack(members))


def anchor_codes(experiment: Experiment, length: int) -> Bits:
    """Return the (n, K) bitwise majorities over all database photos with the label set of each picked query.

    If no database photo has exactly that label set, those that share a label are used.
    """
    bits, votes = experiment.database.bits(length).astype(np.float32), []
    for labels in experiment.labels:
        same = (experiment.database.labels == labels).all(axis=1)
        rows = same if same.any() else (experiment.database.labels & labels).any(axis=1)
        votes.append(bits[rows].sum(axis=0))
    return bits_of(np.stack(votes))


def mainstay_codes(experiment: Experiment, length: int) -> Bits:
    """Return the (n, K) mainstay codes of the picked queries (Yuan et al. 2023); SAAT's targets are their complements.

    A mainstay code is the sign of the mean code of the photos that share a label minus that of those that do not.
    """
    bits = experiment.database.bits(length).astype(np.float32)
    alike = relevance(experiment.labels, experiment.database.labels).astype(np.float32)
    near = alike @ bits / np.maximum(alike.sum(axis=1, keepdims=True), 1)
    far = (1 - alike) @ bits / np.maximum((1 - alike).sum(axis=1, keepdims=True), 1)
    return bits_of(near - far)


def _code_set(
    models: Sequence[OpenModel],
    sha256: str,
    files: LabelledFiles,
    rows: NDArray[np.int64],
    cache: TrialCache,
    progress: Progress,
) -> CodeSet:
    """Return the codes of these rows at every length, from the cache or hashed now; each length has its own table."""
    paths = [files.root / files.paths[i] for i in rows]
    listed = [[files.paths[i], _size(path)] for i, path in zip(rows, paths, strict=True)]
    common = {"codes": sha256, "files": listed, "device": str(models[0].device.type)}
    settings = {model.bits: {**common, "length": model.bits} for model in models}
    tables = {bits: cache.table(each) for bits, each in settings.items()}
    missing = [model for model in models if tables[model.bits] is None]
    if missing:
        progress.start(-(-len(paths) // _BATCH))
        progress.photo(f"hashing {len(paths)} photos, once")
        codes = hash_files(
            [m.model for m in missing],
            models[0].card.input,
            paths,
            batch_size=_BATCH,
            tick=lambda _count: progress.done(None),
        )
        for model, code in zip(missing, codes, strict=True):
            cache.keep_table(settings[model.bits], code=code)
            tables[model.bits] = {"code": code}
    found = {bits: table["code"] for bits, table in tables.items() if table is not None}
    return CodeSet(files.labels[rows], found)


def _size(path: Path) -> int:
    """Return a file's size, which stands for its content in the cache: reading files takes as long as hashing them."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(
            f"{path}: the dataset lists this photo, which cannot be read ({error.strerror}); unpack it again"
        ) from error


def _pixels(path: Path) -> Pixels:
    return displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
