"""What the entries do, started as a file manager does: by the command, in the folder of the photos."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hashshield.cli.app import app
from hashshield.desktop.menus import program
from hashshield.errors import UsageError
from tiny_net import encoded, picture

HOSTILE = ("-rf.png", "$(touch run).png", "a b; touch run.png", "it's <b>\u202e.png")


@pytest.fixture
def places(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos with hostile names, settings for the tiny network, and a stand-in that shows notifications."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for seed, name in enumerate(HOSTILE):
        (folder / name).write_bytes(encoded(picture(seed=seed)))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "notify-send").write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {str(tmp_path / "shown")!r}\n')
    (tools / "notify-send").chmod(0o755)
    settings = {"MODEL": f"{tiny}:16", "PRESET": "invisible", "STEPS": "60", "WITNESS": "none", "DEVICE": "cpu"}
    # Far enough that the search is short.
    settings |= {"TAU": "0.2", "MAX_VISIBLE": "obvious"}
    for key, value in {**settings, "VAULT": str(tmp_path / "vault")}.items():
        monkeypatch.setenv(f"HASHSHIELD_{key}", value)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return folder


def start(folder: Path, action: str, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hashshield", "integrate", "run", action, "--", *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The same in this process, where nothing depends on its being another."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def call(folder: Path, action: str, *names: str) -> int:
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            app(["integrate", "run", action, "--", *names], prog_name="hashshield")
        return ended.value.code if isinstance(ended.value.code, int) else 0

    return call


def shown(folder: Path) -> list[str]:
    return (folder.parent / "shown").read_text().split("\0")[:-1]


def test_copies_in_place_and_back(places: Path) -> None:
    before = {path.name: path.read_bytes() for path in places.iterdir()}
    ended = start(places, "copies", *HOSTILE)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in (places / "protected").iterdir()) == sorted(HOSTILE)
    assert {path.name: path.read_bytes() for path in places.iterdir() if path.is_file()} == before
    said = f"4 protected. The copies are in {places / 'protected'}."
    assert shown(places) == ["--app-name=HashShield", "--", "HashShield", said]

    ended = start(places.parent, "in-place", "my photos/-rf.png")
    assert ended.returncode == 0, ended.stderr
    assert (places / "-rf.png").read_bytes() != before["-rf.png"]
    ended = start(places, "restore", "-rf.png")
    assert ended.returncode == 0, ended.stderr
    assert (places / "-rf.png").read_bytes() == before["-rf.png"]
    assert shown(places)[-1] == "1 restored."
    assert not list(places.parent.rglob("run"))


def test_a_folder_has_its_copies_in_one_of_its_name(places: Path, run: Callable[..., int]) -> None:
    assert run(places.parent, "copies", "my photos") == 0
    copies = places.parent / "protected" / "my photos"
    assert sorted(path.name for path in copies.iterdir()) == sorted(HOSTILE)


def test_trouble_is_shown_as_text(places: Path, run: Callable[..., int]) -> None:
    (places / "<b>broken<b>.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert run(places, "copies", "<b>broken<b>.png") == 0
    assert shown(places)[-1].startswith("1 failed. ")
    assert "&lt;b&gt;broken&lt;b&gt;.png" in shown(places)[-1]
    assert run(places, "polish", "-rf.png") == 2


def test_menus_start_the_installed_program_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="not on the PATH"):
        program()
    (tmp_path / "hashshield").write_text("#!/bin/sh\n")
    (tmp_path / "hashshield").chmod(0o755)
    assert program() == tmp_path / "hashshield"
