"""Attempts that fell short, remembered: the same search on the same photo would only fall short again.

A search is decided by photo, key and settings. One digest stands for them, and any difference changes it. The version
of the search and of the libraries beneath it are part of it, so that an update of HashShield tries again by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hashshield.attacks.version import SEARCH_VERSION
from hashshield.checkpoints.catalog import full_name, resolve
from hashshield.errors import HashshieldError
from hashshield.imaging.formats import read_photo_file
from hashshield.storage import Store, digest, walk
from hashshield.types import Outcome, Request

__all__ = ["EarlierAttempts", "asked_now", "kept_of"]

_KEPT = (
    "reason",
    "bits",
    "linf_levels",
    "linf_levels_written",
    "distance_from_original",
    "distance_to_goal",
    "psnr_db",
    "ssim",
)
_LIBRARIES = ("hashshield", "numpy", "pillow", "torch", "torchvision")
"""Distributions whose release may change what comes out."""


class EarlierAttempts:
    """The attempts of earlier runs under the settings of this one."""

    def __init__(self, request: Request, store: Store) -> None:
        self._request, self._store = request, store
        self._settings: str | None = None

    def before(self, sha256: str) -> Mapping[str, Any] | None:
        """What the row of a photo that fell short before says of it; None where something new is to be tried."""
        attempts = self._store.ledger.attempts
        if self._request.force or self._request.accept_best or not attempts.about(sha256):
            return None
        if self._settings is None:
            self._settings = asked_now(self._request, self._store.key())
        remembered = attempts.find(sha256, self._settings)
        if remembered is None:
            return None
        again = "same settings as before: nothing new was tried; --force tries again"
        return {**remembered, "reason": f"{remembered['reason']} ({again})"}


def kept_of(row: Outcome) -> dict[str, Any]:
    """What is remembered of a photo that fell short."""
    return {name: getattr(row, name) for name in _KEPT}


def asked_now(request: Request, key: bytes) -> str:
    """Digest of everything but the photo that decides what comes out. Raises UnknownNameError, CheckpointError."""
    goal = request.goal
    asked = {
        "models": [(full_name(name), _checkpoint(name)) for name in request.models],
        "goal": (goal.kind, goal.value, _target(goal.value) if goal.kind in ("image", "set") else None),
        "method": (request.method, request.preset, request.stop, request.steps),
        "tau": request.tau,
        "tolerance": request.tolerance,
        # Neither decides much, but who changes one of them means to try something.
        "device": (request.device, request.batch_size),
        "key": key.hex() if request.seed is None else request.seed,
        "search": SEARCH_VERSION,
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }
    return digest(json.dumps(asked, sort_keys=True).encode())


def _checkpoint(name: str) -> str:
    reference = resolve(name)
    return reference.entry.sha256 if reference.entry is not None else _content(reference.path)


def _target(value: str | None) -> list[str]:
    """The contents aimed at: one photo, or all files of a folder."""
    path = Path(str(value))
    return sorted(map(_photo, walk(path) if path.is_dir() else [path]))


def _photo(path: Path) -> str:
    """Digest of a photo; of another file its name, however large it is: no code is taken of it."""
    try:
        return read_photo_file(path, follow=True).sha256
    except HashshieldError:
        return str(path)


def _content(path: Path) -> str:
    """Digest of a file; of one that cannot be read its name, and opening it for the search will say why."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return str(path)


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        # Run from a source tree that was never installed.
        return "unknown"
