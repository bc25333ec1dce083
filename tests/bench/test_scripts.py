"""The scripts in `benchmarks/` find what they import: each is loaded, and none is run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_loaded(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    loaded = runpy.run_path(str(script), run_name="loaded")
    assert loaded["__doc__"], "says what it measures and how it is called"
