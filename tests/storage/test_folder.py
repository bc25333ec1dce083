from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashshield.storage.folder import Folder


@pytest.fixture
def interrupted_close(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C just after a descriptor was closed, once; the descriptors that were closed since."""
    close = os.close
    closed: list[int] = []

    def interrupted(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)
        if len(closed) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", interrupted)
    return closed


@pytest.mark.skipif(os.name == "nt", reason="folders are not held there")
def test_an_interruption_while_a_folder_is_opened_stays_one(tmp_path: Path, interrupted_close: list[int]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        Folder.open(tmp_path / "a" / "b", within=tmp_path)
    assert len(set(interrupted_close)) == len(interrupted_close) == 2, "each descriptor is closed, and only once"


@pytest.mark.skipif(os.name == "nt", reason="folders are not held there")
def test_an_interrupted_close_is_not_repeated(tmp_path: Path, interrupted_close: list[int]) -> None:
    folder = Folder.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        folder.close()
    folder.close()
    assert len(interrupted_close) == 1
