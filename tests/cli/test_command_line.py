"""An empty word is never the current folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.core import TyperGroup

import hashshield
from hashshield.cli import output
from hashshield.cli.command_line import expand_words
from hashshield.config import resolve
from hashshield.errors import UsageError
from tiny_net import encoded, picture

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a photo in it, which nothing changes."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(40, 40)))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HASHSHIELD_VAULT", str(tmp_path / "vault"))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["protect", ""],
        ["protect", "--dry-run", "--json", "a.png", ""],
        ["protect", "a.png", "--output", ""],
        ["protect", "a.png", "-o", ""],
        ["protect", "a.png", "--output="],
        ["protect", "a.png", "--target", ""],
        ["protect", "a.png", "--target-set="],
        ["protect", "a.png", "--vault", ""],
        ["protect", "a.png", "--report", ""],
        ["protect", "--", ""],
        ["verify", ""],
        ["verify", "a.png", "--original", ""],
        ["restore", ""],
        ["restore", "--last-run", ""],
        ["evaluate", "a.png", ""],
        ["audit", "a.png", "--gallery", ""],
        ["audit", "", "--gallery", "."],
        ["audit", "a.png", "--gallery", ".", "--sheet", ""],
        ["watch", ""],
        ["originals", "export", ""],
        ["originals", "forget", "--yes", ""],
        ["originals", "list", "--vault", ""],
        ["models", "import", ""],
        ["train", "own", "--data", "", "-o", "x.safetensors"],
        ["train", "own", "--data", ".", "-o", ""],
        ["bench", "map", "--data", ""],
        ["doctor", "--vault", ""],
    ],
    ids=" ".join,
)
def test_it_is_a_usage_error_everywhere(words: list[str], run: Run, working_folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in working_folder.iterdir()}
    code, out, err = run(*words)
    assert code == 2
    assert out == "" or json.loads(out)["error"]["exit_code"] == 2
    assert "is empty" in err
    assert {path: path.read_bytes() for path in working_folder.iterdir()} == before
    assert not (tmp_path / "vault").exists()


def test_the_current_folder_is_meant_when_it_is_written(run: Run, working_folder: Path) -> None:
    code, out, _ = run("protect", ".", "--dry-run")
    assert code == 0
    assert "a.png\tplanned" in out


@pytest.mark.parametrize(
    ("tried", "meant"),
    [
        (["help"], ["--help"]),
        (["help", "protect"], ["protect", "--help"]),
        (["help", "models", "list"], ["models", "list", "--help"]),
        (["version"], ["--version"]),
        (["config"], ["config", "show"]),
        (["config", "--json"], ["config", "show", "--json"]),
    ],
    ids=" ".join,
)
def test_what_people_try_first_is_what_they_mean(tried: list[str], meant: list[str], run: Run) -> None:
    first, second = run(*tried), run(*meant)
    assert first[0] == second[0] == 0
    hide = partial(re.sub, r'"seconds": [\d.]+', "")
    assert hide(first[1]) == hide(second[1]) != ""


def test_only_windows_leaves_the_home_folder_to_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    words = ["protect", "~/photos", "a~b.jpg", "--output", "~"]
    assert expand_words(words, platform="win32") == ["protect", "/home/me/photos", "a~b.jpg", "--output", "/home/me"]
    assert expand_words(words, platform="linux") == words


def test_help_of_a_group_is_still_its_own(run: Run) -> None:
    assert "Settings, and where each value comes from." in run("config", "--help")[1]
    assert "No such command 'nosuch'" in run("help", "nosuch")[2]


@pytest.mark.parametrize("words", [["--help"], ["protect", "-h"], ["models", "--help"], ["evaluate", "--help"]])
def test_help_shows_no_python_types(words: list[str], run: Run) -> None:
    page = run(*words)[1]
    assert "Show this message" in page
    assert not re.findall(r"<[a-z]\S*>|list\[", page)


def test_watch_looks_before_it_says_that_it_watches(
    run: Run, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hashshield.pipeline.watch.find_spec", lambda name: None)
    code, out, err = run("watch", ".")
    assert (code, out) == (2, "")
    assert "pipx inject hashshield watchfiles" in err
    assert "Watching" not in err


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_VAULT", "")
    assert resolve()["vault"].source == "default"


def test_an_empty_path_is_refused_from_python_too() -> None:
    for call in (
        lambda: hashshield.restore(""),
        lambda: hashshield.protect("", in_place=True),
        lambda: hashshield.protect("a.png", output=""),
        lambda: hashshield.protect("a.png", target=""),
        lambda: hashshield.verify(""),
        lambda: hashshield.evaluate("a.png", ""),
    ):
        with pytest.raises(UsageError, match="is empty"):
            call()


@pytest.mark.parametrize("moment", [(output.Report, "__init__"), (TyperGroup, "parse_args")], ids=["report", "words"])
@pytest.mark.parametrize("as_json", [True, False])
def test_an_interruption_before_the_work_still_prints_one_document(
    run: Run, monkeypatch: pytest.MonkeyPatch, as_json: bool, moment: tuple[type, str]
) -> None:
    def interrupt(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*moment, interrupt)
    code, out, err = run("originals", "list", *(["--json"] if as_json else []))
    assert code == 130
    assert "Interrupted before anything was done" in err
    if not as_json:
        assert out == ""
        return
    document = json.loads(out)
    assert (document["command"], document["results"]) == ("originals list", [])
    assert document["error"]["exit_code"] == 130


@pytest.mark.parametrize("module", ["hashshield.cli.app", "typer.core"])
def test_an_interruption_while_the_program_loads_prints_one_too(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    words = [sys.executable, "-m", "hashshield", "protect", "a.png", "--json"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert json.loads(ended.stdout)["command"] == "protect"


@pytest.mark.parametrize("module", ["numpy.linalg", "torch", "torch.nn", "torch.fx", "torch.export"])
@pytest.mark.parametrize("command", ["protect", "verify", "evaluate", "audit"])
def test_an_interruption_while_torch_loads_prints_one_too(
    tmp_path: Path, tiny: Path, command: str, module: str
) -> None:
    """What was imported halfway cannot be imported again: the document came to need it, and a traceback came out."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(encoded(picture(seed=seed)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment["HASHSHIELD_VAULT"] = str(tmp_path / "vault")
    one, other = str(tmp_path / "0.png"), str(tmp_path / "1.png")
    given = {
        "protect": [one],
        "verify": [one, "--original", other],
        "evaluate": [one, other],
        "audit": [one, "--original", other, "--gallery", str(tmp_path)],
    }
    words = [sys.executable, "-m", "hashshield", command, *given[command], "--model", f"{tiny}:16", "--json"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130, ended.stderr
    document = json.loads(ended.stdout)
    assert (document["command"], document["results"]) == (command, [])
    assert document["error"]["exit_code"] == 130
    assert "Traceback" not in ended.stderr
