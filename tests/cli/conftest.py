"""Running the command line in process, with settings of its own, and rows to show."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from hashshield.cli.app import app
from hashshield.config import SETTINGS, config_path
from hashshield.types import CodeRow, Outcome, SurvivalRow


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the settings of the machine; the path of the configuration file to write."""
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "APPDATA", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.env, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    path = config_path()
    assert tmp_path in path.parents
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run `hashshield` with these words."""
    # Typer replaces the hook when an application is called.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def call(*words: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="hashshield")
        said = capsys.readouterr()
        return Ended(ended.value.code if isinstance(ended.value.code, int) else 0, said.out, said.err)

    return call


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module with these functions in the place of one that the commands import late."""

    def put(name: str, **functions: Any) -> None:
        package, _, last = name.rpartition(".")
        module, parent = ModuleType(name), ModuleType(package)
        module.__dict__.update(functions)
        # Its other modules stay the real ones.
        parent.__path__ = list(getattr(sys.modules.get(package) or import_module(package), "__path__", []))
        parent.__dict__[last] = module
        monkeypatch.setitem(sys.modules, name, module)
        if package != "hashshield":
            monkeypatch.setitem(sys.modules, package, parent)

    return put


@pytest.fixture
def stand_in_bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Any], None]:
    """Put a function in the place of that of a bench, whose columns stay the real ones."""

    def put(module: str, name: str, function: Any) -> None:
        monkeypatch.setattr(f"hashshield.bench.{module}.run_{name}", function)

    return put


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """A row of `protect`, protected unless told otherwise."""

    def make(path: str = "a.jpg", status: Any = "protected", **other: Any) -> Outcome:
        survives = other.pop("survives", True)
        code = CodeRow("lite0-caltech101:48", 48, "crop", 24, 0, 0.3)
        row = SurvivalRow("jpeg q75", "lite0-caltech101:48", "crop", 20, 2, survives)
        measured: dict[str, Any] = {
            "model": "lite0-caltech101:48",
            "bits": 48,
            "goal": "away",
            "distance_from_original": 24,
            "distance_to_goal": 0,
            "visibility": 0.62,
            "visibility_word": "faint",
            "psnr_db": 47.25,
            "steps": 40,
            "seconds": 0.81,
            "codes": (code,),
            "survival": (row,),
        }
        if status not in ("protected", "partial", "short"):
            measured = {}
        return Outcome(path=path, status=status, **{**measured, **other})

    return make
