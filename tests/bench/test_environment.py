from __future__ import annotations

import math
import platform
import sys

import pytest
from hashshield.bench.environment import peak_mib


def test_memory_is_measured_or_not_known_where_python_has_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none; at first the bench failed there."""
    assert peak_mib() > 10
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(peak_mib())
