"""Protecting small photos with the tiny network, and measuring them with nothing of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hashshield.types import Outcome, Request


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.photos: list[str] = []
        self.rows: list[object] = []
        self.notices: list[str] = []

    def start(self, total: int) -> None:
        self.total = total

    def photo(self, path: str) -> None:
        self.photos.append(path)

    def done(self, outcome: object) -> None:
        self.rows.append(outcome)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def request_for(tiny: Path, tmp_path: Path) -> Callable[..., Request]:
    """A request on the tiny network with a vault of its own."""

    def make(**changes: Any) -> Request:
        plain: dict[str, Any] = {
            "models": (f"{tiny}:16",),
            # The other presets ask more than the tiny network can give.
            "preset": "invisible",
            # Nor can it be met unseen; ceilings have tests of their own.
            "max_visible": "obvious",
            "steps": 60,
            "batch_size": 4,
            "vault": tmp_path / "vault",
            "device": "cpu",
            # Vault keys are random; what a test sees should not be.
            "seed": 1,
            # The embedded network would be one, and is slow.
            "witness": "none",
        }
        return Request(**{**plain, **changes})

    return make


@pytest.fixture
def protect_now(request_for: Callable[..., Request], told: Told) -> Callable[..., list[Outcome]]:
    """Protect paths with changes to the plain request; rows in the order of paths."""
    from hashshield.pipeline.protect import protect

    def now(*paths: Path, **changes: Any) -> list[Outcome]:
        return protect(paths, request_for(**changes), progress=told)

    return now
