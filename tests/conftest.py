"""What the tests of the core share: one compute thread, and a hash network small enough to attack in milliseconds."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Small tensors are faster on one thread, and results do not depend on the machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests, and what they start, a folder for temporary files that is removed with whatever is left in it."""
    tmp_path_factory.getbasetemp()  # pytest's own folder stays where it is
    # Short, because sockets of Ray lie below it, and open to all, because some tests run as another user.
    folder = Path(tempfile.mkdtemp(prefix="hs-"))
    folder.chmod(0o1777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    left = sorted(path.name for path in folder.glob("hashshield-*"))
    shutil.rmtree(folder, ignore_errors=True)
    assert left == [], "HashShield left these in the folder of temporary files"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file of codes of 16 and 24 bits with four classes, seeded, untrained."""
    from tiny_net import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="session")
def copy_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that finds copies of scenes, trained from a seed, whose card names its thresholds."""
    from copy_detector import write_detector

    return write_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of fixture photos."""
    return Path(__file__).parent / "data"
