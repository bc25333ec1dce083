"""What the tests of benches share: one folder of data and trials, and counting progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_experiment import Silent, write_classes
from tiny_net import write_tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, network and output of the benches on a dataset, which find each other's trials there."""
    return tmp_path_factory.mktemp("paper")


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("classes") / "pictures")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return f"{write_tiny(path, dataset='folder', split={'queries': 8, 'seed': 0})}:24"
