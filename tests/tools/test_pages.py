"""The committed pages and scripts are those the application gives, and no option is missing from its page."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from hashshield.cli.app import app
from hashshield.config import SETTINGS
from tools.build_pages import main
from tools.completions import scripts
from tools.describe import Command, describe, walk
from tools.man import pages

ROOT = Path(__file__).parents[2]
DESCRIBED = describe(app, "hashshield")
PAGES = pages(DESCRIBED)
REGENERATE = "run `make pages`"


def parsers(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Every command of the parser Typer builds: an account of the application that `describe` never sees."""
    found = [(path, command)]
    for name, child in getattr(command, "commands", {}).items():
        found += parsers(child, (*path, name))
    return found


PARSERS = parsers(typer.main.get_command(app), ("hashshield",))


@pytest.mark.parametrize(("folder", "files"), [("man", PAGES), ("completions", scripts(DESCRIBED))])
def test_committed_files_are_the_generated_ones(folder: str, files: dict[str, str]) -> None:
    committed = {path.name: path.read_bytes() for path in (ROOT / folder).iterdir()}
    assert set(committed) == set(files), REGENERATE
    for name, text in files.items():
        assert committed[name] == text.encode(), f"{folder}/{name}: {REGENERATE}"


def test_the_page_of_the_command_line_names_every_command_option_and_argument() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in walk(DESCRIBED):
        words = " ".join(command.path[1:])
        section = re.search(rf"^##+ {words}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL) if words else None
        assert (section is None) == (words == ""), words
        for option in command.options if section else ():
            assert all(f"`{name}`" in section[1] or option.names == ("-h", "--help") for name in option.names), words
        for argument in command.arguments if section else ():
            assert f"| `{argument.metavar}` |" in section[1]


def test_generating_writes_them_and_removes_pages_of_no_command(tmp_path: Path) -> None:
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "hashshield-gone.1").write_text("old")
    main([str(tmp_path / "man"), str(tmp_path / "completions"), str(tmp_path / "docs")])
    assert (tmp_path / "docs" / "cli.md").read_bytes() == (ROOT / "docs" / "cli.md").read_bytes(), REGENERATE
    for folder in ("man", "completions"):
        for path in (ROOT / folder).iterdir():
            assert (tmp_path / folder / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "man" / "hashshield-gone.1").exists()


@pytest.mark.parametrize(("path", "command"), PARSERS, ids=[" ".join(path) for path, _ in PARSERS])
def test_every_option_is_in_its_page_and_in_every_script(path: tuple[str, ...], command: Any) -> None:
    page = PAGES["-".join(path) + ".1"]
    bash = scripts(DESCRIBED)["hashshield.bash"]
    (case,) = re.findall(rf"^    '{' '.join(path)}'\)\n(.*?)^        ;;", bash, re.MULTILINE | re.DOTALL)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert f".I {parameter.metavar}" in page
            continue
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert "\\fB{}\\fR".format(name.replace("-", "\\-")) in page
            assert name in case.split("'")[1 if "commands=" not in case else 3].split()
        assert parameter.help, name
    assert all(f"\\fB{name}\\fR" in page for name in ("\\-h", "\\-\\-help"))


def test_the_description_has_the_commands_of_the_parser() -> None:
    assert {command.path for command in walk(DESCRIBED)} == {path for path, _ in PARSERS}
    assert len(PAGES) == len(PARSERS)


@pytest.mark.parametrize("command", list(walk(DESCRIBED)), ids=lambda command: " ".join(command.path))
def test_every_command_and_group_has_examples(command: Command) -> None:
    assert command.examples
    own = " ".join(command.path)
    assert all(f"{own} " in example or example.endswith(own) for example in command.examples)
    assert ".SH EXAMPLES" in PAGES["-".join(command.path) + ".1"]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_every_setting_is_in_the_first_page(setting: Any) -> None:
    text = PAGES["hashshield.1"]
    for words in (f".B {setting.key}", setting.env, setting.default_text.replace("-", "\\-")):
        assert words in text


def test_environment_variables_are_in_the_page_of_the_command_that_reads_them() -> None:
    page = PAGES["hashshield-protect.1"]
    for setting in SETTINGS.values():
        assert (f".B {setting.env}\n" in page) == bool(setting.option)
    assert "HASHSHIELD_MODEL" not in PAGES["hashshield-verify.1"]
    assert "HASHSHIELD_DEVICE" in PAGES["hashshield-verify.1"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_pass_the_linter(name: str, tmp_path: Path) -> None:
    linter = shutil.which("mandoc")
    if linter is None:
        pytest.skip("mandoc is not installed (.ci/run installs it where it can)")
    (tmp_path / name).write_text(PAGES[name])
    ended = subprocess.run([linter, "-T", "lint", tmp_path / name], capture_output=True, text=True)
    assert ended.stdout == ""
    assert ended.returncode == 0


def lines_of_documents() -> list[str]:
    found = [example for command in walk(DESCRIBED) for example in command.examples]
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")):
        if document.is_file():
            blocks = re.findall(r"^```(?:console|shell|sh|bash)?\n(.*?)^```", document.read_text(), re.M | re.S)
            found += re.findall(r"^(?:\$ )?(hashshield .*)$", "\n".join(blocks), re.M)
    return sorted(set(found))


@pytest.mark.parametrize("line", lines_of_documents())
def test_command_lines_in_the_documents_can_be_parsed(line: str) -> None:
    commands = {command.path: command for command in walk(DESCRIBED)}
    words = [
        word for word in shlex.split(line.partition(" > ")[0], comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)
    ]
    path = tuple(words[:1])
    while (*path, *words[len(path) : len(path) + 1]) in commands and len(path) < len(words):
        path = tuple(words[: len(path) + 1])
    command: Command = commands[path]
    known = {name for option in command.options for name in option.names}
    assert {word.partition("=")[0] for word in words[len(path) :] if re.match(r"--?[a-z]", word)} <= known
    assert not command.commands or len(words) > len(path) or "--version" in words
