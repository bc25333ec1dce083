from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashshield.storage import calls

# The scenario is shared with scripts that run in processes of their own.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_observer_left() -> Iterator[None]:
    yield
    calls.observe(None)


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: kills and faults are the same there, and flushing costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        # Without links above it, so that recorded paths and named ones agree.
        yield Path(os.path.realpath(folder))


@pytest.fixture
def as_user(quick: Path) -> Iterator[Path]:
    """A folder of an ordinary user, with the test running as that user even where it was started by root."""
    if os.geteuid() != 0:
        yield quick
        return
    nobody = 65534
    os.chown(quick, nobody, nobody)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(nobody)
    os.seteuid(nobody)
    try:
        yield quick
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
