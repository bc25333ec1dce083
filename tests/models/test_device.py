from __future__ import annotations

import sys

import pytest
import torch

from hashshield.errors import UsageError
from hashshield.models.device import choose_device, keep_freed_memory


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_there_is(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("asked", ["cuda", "mps", "tpu"])
def test_a_device_that_is_not_there(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"device {asked} is not available; this machine has: cpu"):
        choose_device(asked)


def test_memory_is_kept_where_the_system_can() -> None:
    kept = keep_freed_memory()
    assert kept in (True, False)
    assert kept is keep_freed_memory()
    if not sys.platform.startswith("linux"):
        assert not kept
