"""The Dockerfile, taken apart: what goes in, who runs it, and that the package can be built from what it copies."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hashshield.config import SETTINGS

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined and comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def copied() -> list[str]:
    """What the build stage copies from the repository."""
    return [name for word, rest in stages()[0] if word == "COPY" for name in rest.split()[:-1]]


def test_it_is_of_known_instructions_on_pinned_images() -> None:
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in instructions()} <= known
    for word, rest in instructions():
        if word == "FROM":
            image = rest.split()[0]
            assert re.fullmatch(r"[a-z./-]+:\d+\.\d+[a-z0-9.-]*", image), image
        if word == "RUN":
            assert not re.search(r"\b(curl|wget|apt-get|sudo|cd)\b|\|", rest)
            assert "pip install" not in rest or "--no-cache-dir" in rest


def test_it_does_not_run_as_root_and_gets_its_arguments_whole() -> None:
    last = stages()[-1]
    users = [rest for word, rest in last if word == "USER"]
    assert users
    # A number, so that a cluster can tell that it is not root.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    after = [word for word, _ in last[[word for word, _ in last].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after
    (entry,) = (json.loads(rest) for word, rest in last if word == "ENTRYPOINT")
    (default,) = (json.loads(rest) for word, rest in last if word == "CMD")
    assert (entry, default) == (["hashshield"], ["--help"])
    assert [rest.split()[0] for word, rest in last if word == "COPY"] == ["--from=build"]


def test_its_settings_are_settings_and_no_index_is_built_in() -> None:
    text = "\n".join(rest for _, rest in instructions())
    named = set(re.findall(r"HASHSHIELD_\w+", text))
    assert named == {"HASHSHIELD_VAULT", "HASHSHIELD_OFFLINE"}
    assert named <= {setting.env for setting in SETTINGS.values()}
    assert "://" not in text
    assert ("ARG", "PIP_EXTRA_INDEX_URL=") in instructions()


def test_what_is_copied_is_there_and_let_through_and_nothing_else_is() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == set(copied())
    for name in copied():
        assert (ROOT / name).exists()
    assert not [
        name for name in ("tests", ".git", "checkpoints", ".venv") if any(fnmatch.fnmatch(name, a) for a in allowed)
    ]


def test_the_package_is_built_from_what_is_copied(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed (it comes with the extra dev)")
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "dist"]
    ended = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1
