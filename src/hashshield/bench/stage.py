"""The stage of a bench: one checkpoint at one or more lengths, its dataset, and the queries that are attacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.bench.environment import environment
from hashshield.bench.map import open_protocol
from hashshield.bench.pool import Pool
from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.catalog import resolve
from hashshield.datasets import LabelledFiles, Split
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hash_files import displayed_rgb, feature_files, hash_files
from hashshield.models.load import OpenModel, open_checkpoint, open_models
from hashshield.types import Progress

__all__ = ["Asked", "Shelf", "Stage", "database_features", "lengths_of", "set_stage"]

_BATCH = 32

Codes = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Asked:
    """What every bench of the paper is asked."""

    models: tuple[str, ...]
    """One checkpoint, for all its lengths; or some of them, as `checkpoint:bits`."""
    data: Path
    output: Path
    """Holds `results/`, `plots/`, and `runs/`, what is made on the way and never made twice."""
    queries: int = 24
    """Queries that are attacked."""
    tau: float = 0.032
    """L-infinity bound in [0, 1] units."""
    steps: int | None = None
    """Gradient steps of `rnm`, per photo and try; None: its own number."""
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """Labelled codes: the queries, or the database."""

    labels: NDArray[np.bool_]
    """(N, L)"""
    codes: dict[int, Codes]
    """Relaxed (N, K) by length."""

    def bits(self, length: int) -> NDArray[np.int8]:
        """(N, K) in {-1, +1}."""
        return bits_of(self.codes[length])


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything the benches of the paper have in common."""

    models: tuple[OpenModel, ...]
    """Lengths of one checkpoint, ascending."""
    digest: str
    """SHA-256 of its file."""
    files: LabelledFiles
    split: Split
    queries: Shelf
    database: Shelf
    picked: NDArray[np.int64]
    """Rows of `queries` that are attacked, in random order."""
    pool: Pool
    asked: Asked

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.asked.seed

    @property
    def name(self) -> str:
        """The checkpoint's, without a length."""
        return self.models[0].card.name

    @property
    def lengths(self) -> tuple[int, ...]:
        """Code lengths, ascending."""
        return tuple(model.bits for model in self.models)

    def model(self, length: int) -> OpenModel:
        """The network of that length."""
        return next(model for model in self.models if model.bits == length)

    def query_path(self, row: int) -> Path:
        """The file of a row of `queries`."""
        return self.files.root / self.files.paths[int(self.split.queries[row])]

    @cached_property
    def pixels(self) -> dict[int, Pixels]:
        """Upright (H, W, 3) pixels of the picked rows of `queries`."""
        return {int(row): _pixels(self.query_path(int(row))) for row in self.picked}

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a result file says of how it came about."""
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
            rnm_steps=self.asked.steps,
            relevance="the same class" if bool((self.files.labels.sum(1) == 1).all()) else "at least one shared label",
            ranking="average precision over the full ranking (N is the size of the gallery)",
            ties="equal distances keep the order of the gallery",
            unseen_gallery="the other queries of the split, which were not trained on",
            index="unchanged queries look for the changed photos of their kind; other photos of it are left out",
            **more,
        )


def lengths_of(names: Sequence[str]) -> list[str]:
    """`checkpoint` -> one name per length it has; `checkpoint:bits` as it is.

    Raises UsageError for several checkpoints, UnknownNameError, CheckpointError.
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


def set_stage(asked: Asked, progress: Progress) -> Stage:
    """Open networks and dataset and hash all of it, once for all benches. Raises UsageError, CheckpointError."""
    keep_freed_memory()
    wanted = lengths_of(asked.models)
    sha256 = digest_of(resolve(wanted[0]).path)
    models = tuple(sorted(open_models(wanted, device=choose_device(asked.device)), key=lambda model: model.bits))
    files, split = open_protocol(models[0], asked.data)
    pool = Pool(asked.output / "runs")
    queries, database = (_shelf(models, sha256, files, r, pool, progress) for r in (split.queries, split.database))
    picked = np.searchsorted(split.queries, split.sample(asked.queries, seed=asked.seed))
    return Stage(models, sha256, files, split, queries, database, picked, pool, asked)


def _shelf(
    models: Sequence[OpenModel],
    sha256: str,
    files: LabelledFiles,
    rows: NDArray[np.int64],
    pool: Pool,
    progress: Progress,
) -> Shelf:
    paths = [files.root / files.paths[i] for i in rows]
    known = {
        "codes": sha256,
        "lengths": [model.bits for model in models],
        "files": [[files.paths[i], _size(path)] for i, path in zip(rows, paths, strict=True)],
        "device": str(models[0].model.mean.device.type),
    }
    table = pool.table(known)
    if table is None:
        progress.start(-(-len(paths) // _BATCH))
        progress.photo(f"hashing {len(paths)} photos, once")
        codes = hash_files(
            [m.model for m in models],
            models[0].card.input,
            paths,
            batch_size=_BATCH,
            tick=lambda _count: progress.done(None),
        )
        table = {str(model.bits): code for model, code in zip(models, codes, strict=True)}
        pool.keep_table(known, **table)
    return Shelf(files.labels[rows], {int(bits): code for bits, code in table.items()})


def database_features(stage: Stage, progress: Progress) -> NDArray[np.float32]:
    """(N, D) features of the database, kept like its codes."""
    opened = stage.models[0]
    paths = [stage.files.root / stage.files.paths[i] for i in stage.split.database]
    known = {
        "features": stage.digest,
        "files": [[stage.files.paths[i], _size(path)] for i, path in zip(stage.split.database, paths, strict=True)],
        "device": opened.model.mean.device.type,
    }
    table = stage.pool.table(known)
    if table is None:
        progress.start(-(-len(paths) // _BATCH))
        progress.photo(f"features of {len(paths)} photos, once")
        rows = feature_files(
            opened.model, opened.card.input, paths, batch_size=_BATCH, tick=lambda _count: progress.done(None)
        )
        table = {"features": rows}
        stage.pool.keep_table(known, **table)
    return table["features"]


def _size(path: Path) -> int:
    """Bytes of a file; stands for its content, because reading a database takes as long as hashing it."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(
            f"{path}: the dataset lists this photo, which cannot be read ({error.strerror}); unpack it again"
        ) from error


def _pixels(path: Path) -> Pixels:
    return displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
