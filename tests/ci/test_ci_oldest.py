"""`.ci/oldest.py` reads the lower bounds as a reader of TOML does; `.ci/oldest` ends well where none can be had."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hashshield.text import parse_toml

ROOT = Path(__file__).parents[2]
CI = ROOT / ".ci"


def test_every_dependency_is_taken_at_its_lower_bound() -> None:
    command = [sys.executable, CI / "oldest.py", ROOT / "pyproject.toml"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    project = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    exact = [line for line in lines if "==" in re.split(r"[ ;]", line)[0]]
    assert exact == [requirement.replace(">=", "==", 1) for requirement in project["dependencies"]]
    others = lines[len(exact) :]
    assert set(others) <= set(project["optional-dependencies"]["dev"])
    assert {line.partition(">=")[0] for line in others} >= {"pytest", "hypothesis", "onnx"}


@pytest.mark.skipif(shutil.which("timeout") is None or os.name == "nt", reason="timeout or bash is not here")
def test_without_an_index_it_is_said_and_is_no_failure(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "CI_OLDEST_VENV": str(tmp_path / "venv"),
        "PIP_NO_INDEX": "1",
        "PYTHON": sys.executable,
    }
    environment.pop("PIP_FIND_LINKS", None)
    environment["PIP_CONFIG_FILE"] = os.devnull
    ended = subprocess.run([CI / "oldest"], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("The oldest dependencies were not tried: pip could not install them")
