"""A cache of the test's own, no settings and no proxies of the machine, and a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_server import FileServer, running
from hashshield.config import SETTINGS


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache; it does not exist yet."""
    for name in (*(setting.env for setting in SETTINGS.values()), *os.environ):
        if name.startswith("HASHSHIELD_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running() as server:
        yield server
