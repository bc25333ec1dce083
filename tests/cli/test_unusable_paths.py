"""A path that the system cannot even look at, or cannot write to, ends a command with one line, not a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny_net import encoded, picture

Run = Callable[..., Any]

LONG = "x" * 300
"""Longer than any file system takes."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with a photo, `a.png`, and a folder of one, `d`; the vault is beside it."""
    folder = tmp_path / "here"
    (folder / "d").mkdir(parents=True)
    for name in ("a.png", "d/b.png"):
        (folder / name).write_bytes(encoded(picture(40, 40)))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HASHSHIELD_VAULT", str(tmp_path / "vault"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (f"originals forget {LONG} --yes", 1, "nothing is recorded about this path"),
        (f"originals repair --vault {LONG}", 1, "no vault is there"),
        (f"protect a.png --output {LONG}", 2, f"--output {LONG}: the name is too long"),
        (f"protect a.png --output {LONG}/below --dry-run", 2, f"--output {LONG}/below: the name is too long"),
        (f"protect a.png --target {LONG} --dry-run", 2, "no such file or folder to aim at"),
        (f"protect a.png --target-set {LONG}", 2, "no such file or folder to aim at"),
        (f"protect a.png --report {LONG}/a.html", 2, "does not exist; make it or name another"),
        (f"protect a.png --vault {LONG}", 1, f"opening the vault folder {LONG}: the name is too long"),
        (f"protect {LONG} --dry-run", 1, "no such file or folder"),
        (f"models path {LONG}.safetensors", 4, "no such checkpoint file"),
        (f"models import {LONG}.safetensors", 4, "no such checkpoint file"),
        (f"evaluate {LONG} a.png", 2, "the name is too long"),
        (f"evaluate d {LONG}", 2, "the name is too long"),
        (f"audit a.png --gallery {LONG}", 2, f"--gallery {LONG}: no such folder"),
        (f"watch {LONG}", 2, "is not a folder"),
        (f"train {LONG} --data d -o o.safetensors", 2, "unknown recipe"),
        (f"train own --data {LONG} -o o.safetensors", 2, "no such folder"),
        (f"train own --data d -o {LONG}.safetensors", 2, f"--output {LONG}.safetensors: the name is too long"),
        ("train own --data d -o a.png/o.safetensors", 2, "--output a.png/o.safetensors: it exists already"),
        (f"bench survival {LONG}", 2, "the name is too long"),
        (f"bench map --data {LONG}", 2, "Caltech-101 keeps its photos"),
    ],
    ids=lambda value: value.replace(LONG, "LONG") if isinstance(value, str) else None,
)
def test_a_name_that_is_too_long_is_one_line(words: str, code: int, said: str, run: Run) -> None:
    ended = run(*words.split())
    assert ended.code == code
    assert said in ended.err
    assert "internal error" not in ended.err


def test_a_vault_that_cannot_be_looked_at_is_no_missing_one(run: Run) -> None:
    assert "photos are compared without what was recorded" in run("evaluate", "a.png", "a.png", "--vault", LONG).err
    found = json.loads(run("doctor", "--vault", LONG, "--json").out)["results"]
    assert [row["status"] for row in found if row["check"] == "vault"] == ["failed"]


@pytest.mark.parametrize("words", ["verify a.png", "evaluate a.png a.png", "restore a.png", "protect a.png --dry-run"])
def test_a_missing_vault_is_said_to_be_missing_and_is_not_made(words: str, run: Run, tmp_path: Path) -> None:
    assert "there is no vault yet in the place you named" in run(*words.split(), "--vault", str(tmp_path / "typo")).err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("words", ["originals list", "protect a.png --dry-run", "config show"])
def test_an_unknown_home_folder_is_named_with_its_setting(
    words: str, run: Run, monkeypatch: pytest.MonkeyPatch, own_settings: Path
) -> None:
    monkeypatch.setenv("HASHSHIELD_VAULT", "~nouser/x")
    ended = run(*words.split())
    assert ended.code == 2
    assert "HASHSHIELD_VAULT is '~nouser/x', and the home folder that it begins with is not known" in ended.err
    monkeypatch.delenv("HASHSHIELD_VAULT")
    own_settings.write_text("vault = '~nouser/x'\n")
    ended = run(*words.split())
    assert ended.code == 2
    assert f"{own_settings}: vault is '~nouser/x'" in ended.err


def test_a_mirror_in_an_unknown_home_folder_has_no_such_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_MIRROR", "~nouser/x")
    ended = run("models", "download", "lite2-caltech101")
    assert ended.code == 4
    assert "no such file" in ended.err


@pytest.mark.parametrize("days", ["1000000", "nan", "inf", "-1"])
def test_an_age_that_no_original_has_is_refused(days: str, run: Run) -> None:
    ended = run("originals", "prune", "--older-than", days, "--dry-run")
    assert ended.code == 2
    assert "--older-than" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        "watch {folder} --settle {number}",
        "bench size a.png --megapixels 0.2 --megapixels {number}",
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_no_command_takes_a_number_that_is_not_finite(number: str, words: str, run: Run, tmp_path: Path) -> None:
    ended = run(*words.format(folder=tmp_path, number=number).split())
    assert ended.code == 2
    assert "Invalid value for" in ended.err
