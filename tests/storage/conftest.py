from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hashshield.storage import Store, calls


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_observer_left() -> Iterator[None]:
    yield
    calls.observe(None)
