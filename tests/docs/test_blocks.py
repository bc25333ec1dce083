"""Every command line of README and docs is run, in a folder of example files and without a network, or says why not.

A section of a page is run from its first line to its last in one folder with a vault of its own. Each line must end
with 0. Only `protect` may also end with 3: whether a search reaches its goal within the default steps is a property of
the photo and of the machine's arithmetic, and the lines after it show that the files are as the page says.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, Block, blocks, run, words_of
from PIL import Image

from hashshield.cli.app import app
from hashshield.cli.command_line import expand_words
from hashshield.config import SETTINGS
from tiny_net import write_tiny
from tools.describe import describe, walk

BLOCKS = blocks()
SECTIONS = {
    f"{page.name}: {heading}": list(found)
    for (page, heading), found in groupby(BLOCKS, key=lambda block: (block.page, block.heading))
}
LINES = [line for block in BLOCKS for line in block.lines]
SEARCHES = re.compile(r"hashshield (protect|watch|bench)\b")


def marks(found: list[Block]) -> list[pytest.MarkDecorator]:
    """`slow` for a section whose page says so, `long` for another that searches, unless it is of README."""
    if any(block.slow for block in found):
        return [pytest.mark.slow]
    lines = [line for block in found for line in block.lines if not block.reason]
    return [pytest.mark.long] * (found[0].page.name != "README.md" and any(map(SEARCHES.search, lines)))


@pytest.fixture
def folder(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages speak of: photos, folders of them, and a network; a known key, so that draws repeat."""
    work = tmp_path / "work"
    for name in ("photos", "export", "DCIM/100_PANA", "originals", "protected"):
        (work / name).mkdir(parents=True)
    copies = {
        "lotus.jpg": ("a.jpg", "photos/a.jpg", "other.jpg", "DCIM/100_PANA/P1000001.JPG"),
        "platypus.jpg": ("b.jpg", "photos/b.jpg", "private.jpg"),
        "../../docs/images/original.jpg": ("mine.jpg", "export/kangaroo.jpg", "original.jpg", "originals/kangaroo.jpg"),
        "../../docs/images/protected.jpg": ("online.jpg", "protected.jpg", "protected/kangaroo.jpg"),
    }
    for source, names in copies.items():
        for name in names:
            shutil.copyfile(data / source, work / name)
    (work / "DCIM" / "100_PANA" / "P1000002.MP4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    with Image.open(data / "kangaroo.jpg") as photo:
        for name in ("a.png", "carrier.png"):
            photo.save(work / name)
    write_tiny(work / "mine.safetensors", name="mine")
    (work / "checkpoints").symlink_to(ROOT / "checkpoints")
    (work / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "vault").mkdir(mode=0o700)
    (tmp_path / "vault" / "key").write_bytes(bytes(range(32)))
    (tmp_path / "vault" / "key").chmod(0o600)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.env, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    # Where samples go.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HASHSHIELD_VAULT", str(tmp_path / "vault"))
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HASHSHIELD_OFFLINE", "1")
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(name, marks=marks(found))
        for name, found in SECTIONS.items()
        if any(not block.reason for block in found)
    ],
)
def test_a_section_runs_as_it_is_printed(section: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any("model.onnx" in line for block in SECTIONS[section] for line in block.lines):
        nets = pytest.importorskip("onnx_nets", reason="the extra onnx is not installed", exc_type=ImportError)
        nets.written(folder, nets.hash_net())
    for block in SECTIONS[section]:
        for line in block.lines if not block.reason else ():
            ended = run(line, folder, monkeypatch)
            allowed = (0, 3) if re.search(r"hashshield protect\b", line) else (0,)
            assert ended.code in allowed, f"{line}\n{ended.out}{ended.err}"


def test_sections_with_blocks_have_names_of_their_own() -> None:
    assert sum(len(found) for found in SECTIONS.values()) == len(BLOCKS)


def test_what_is_not_run_says_what_it_would_need() -> None:
    left = {block.reason for block in BLOCKS} - {""}
    assert left
    assert all(re.search(r"\b(needs?|takes|downloads|installs|writes)\b", reason) for reason in left), left


@pytest.mark.parametrize("line", sorted({line for line in LINES if "hashshield " in line}))
def test_command_lines_are_taken_by_the_parser(line: str) -> None:
    _, program, words, *_ = words_of(line)
    if program != "hashshield":
        pytest.skip(f"a line of {program}")
    command: Any = typer.main.get_command(app)
    if words == ["--version"]:
        with pytest.raises(typer.Exit):
            command.make_context(program, words)
        return
    context = None
    while hasattr(command, "resolve_command"):
        context = command.make_context(command.name, words[:1], parent=context)
        name, command, words = command.resolve_command(context, words)
    taken = command.make_context(name, words, parent=context)
    for key, value in taken.params.items():
        if key in SETTINGS and SETTINGS[key].choices and value is not None:
            known = SETTINGS[key]
            for word in value if isinstance(value, list | tuple) else [value]:
                assert word in known.choices or (known.high is not None and known.low <= float(word) <= known.high)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "SECURITY.md"], ids=lambda path: path.name)
def test_commands_named_in_a_sentence_exist(page: Path) -> None:
    commands = {command.path: command for command in walk(describe(app, "hashshield"))}
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`(hashshield [^`]+)`", prose):
        program, *rest = span.replace("|", " ").split()
        words = [program, *expand_words(rest)]
        path = tuple(words[:1])
        while len(path) < len(words) and (*path, words[len(path)]) in commands:
            path = (*path, words[len(path)])
        assert len(path) > 1 or words[1].startswith("-"), f"{page.name}: {span}"
        known = {name for option in commands[path].options for name in option.names}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, span


def test_a_block_that_is_not_marked_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("hashshield restore", tmp_path, monkeypatch).code == 2
    assert "lite0" in run("hashshield models list --names  # names", tmp_path, monkeypatch).out
    assert run("hashshield models list --names > names", tmp_path, monkeypatch).out == ""
    assert "lite0-caltech101:48" in (tmp_path / "names").read_text().splitlines()
    with pytest.raises(AssertionError, match="mark its block"):
        run("rm -r photos", tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="more shell"):
        run("hashshield verify a.jpg | cat", tmp_path, monkeypatch)
