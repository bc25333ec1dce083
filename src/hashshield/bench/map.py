"""`bench map`: the MAP of a checkpoint, measured again from its file by the protocol of its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashshield.datasets import LabelledFiles, Split, open_dataset
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.retrieval import hamming_map, map_floor, relevance, unseen_map
from hashshield.models.device import choose_device
from hashshield.models.hash_files import hash_files
from hashshield.models.load import OpenModel, open_models
from hashshield.types import Progress

__all__ = ["open_protocol", "run"]

_BATCH = 32


def run(*, models: Sequence[str], data: Path, device: str = "auto", progress: Progress) -> list[dict[str, Any]]:
    """One row per model: full-database MAP, and beside it the queries among themselves, which were not trained on.

    Raises UsageError, CheckpointError.
    """
    opened = open_models(models, device=choose_device(device))
    rows = []
    for group in _by_checkpoint(opened):
        files, split = open_protocol(group[0], data)
        progress.start(-(-len(files.paths) // _BATCH))
        codes = hash_files(
            [m.model for m in group],
            group[0].card.input,
            [files.root / p for p in files.paths],
            batch_size=_BATCH,
            tick=lambda _done: progress.done(None),
        )
        labels = files.labels[split.queries], files.labels[split.database]
        floor = map_floor(relevance(*labels))
        for model, code in zip(group, codes, strict=True):
            bits = bits_of(code)
            rows.append(
                {
                    "model": model.name,
                    "bits": model.bits,
                    "split": f"{files.name}, seed {model.card.split['seed']}",
                    "queries": len(split.queries),
                    "database": len(split.database),
                    "map": round(hamming_map(bits[split.queries], bits[split.database], *labels), 4),
                    "map_unseen_gallery": round(unseen_map(bits[split.queries], files.labels[split.queries]), 4),
                    "map_random": round(floor.random, 4),
                    "map_lowest": round(floor.lowest, 4),
                }
            )
    return rows


def open_protocol(model: OpenModel, data: Path) -> tuple[LabelledFiles, Split]:
    """The dataset and split that a checkpoint's card names. Raises UsageError."""
    said = model.card.split
    files = open_dataset(model.card.dataset, data, split=said.get("name"))
    return files, files.split(seed=said["seed"], queries=said["queries"], training=said.get("training"))


def _by_checkpoint(models: Sequence[OpenModel]) -> list[list[OpenModel]]:
    groups: dict[str, list[OpenModel]] = {}
    for model in models:
        groups.setdefault(model.name.rpartition(":")[0], []).append(model)
    return list(groups.values())
