"""Which networks a run uses that were not named: those to search on, and those to ask afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import read_card
from hashshield.config import Settings

__all__ = ["installed_models", "models_to_search"]

_ON_ALL = ("strong",)
"""Presets that are searched on every network that is here where none is named. Not with the presets themselves, which
bring torch: a request that leaves nothing to do is answered without."""
_LEAST = 64
"""Pixels of input from which on a network looks at photos; smaller ones know thumbnails."""
_LEAST_SEARCHED = 96
"""The same for networks that are searched on unasked: one of 64 pixels kept most photos from their goal (ADR 007)."""


def installed_models(least: int = _LEAST) -> Iterator[catalog.CatalogEntry]:
    """Networks that are here and see at least so many pixels, in the catalogue's order, imported ones last.

    Raises CheckpointError.
    """
    for entry in catalog.known():
        if catalog.state(entry) != "available" and read_card(catalog.file_of(entry)).input.crop >= least:
            yield entry


def models_to_search(settings: Settings) -> tuple[str, ...]:
    """The networks to search on; for some presets, where none is named, all for photos but a named witness.

    Raises UnknownNameError, CheckpointError.
    """
    named, witness = settings["model"], settings["witness"].value
    models: tuple[str, ...] = named.value
    if named.source != "default" or settings["preset"].value not in _ON_ALL:
        return models
    left = {catalog.reference(model).name for model in models}
    if witness not in ("auto", "none"):
        left.add(catalog.reference(witness).name)
    return models + tuple(entry.name for entry in installed_models(_LEAST_SEARCHED) if entry.name not in left)
