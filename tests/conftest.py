"""What the tests of the core share: one compute thread, and a hash network small enough to attack in milliseconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Small tensors are faster on one thread, and results do not depend on the machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file of codes of 16 and 24 bits with four classes, seeded, untrained."""
    from tiny_net import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of fixture photos."""
    return Path(__file__).parent / "data"
