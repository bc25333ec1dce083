"""The console blocks of README and docs, and a small shell to run them; as a module because tests share it.

A page may say three things about a block, in a comment right before it: `<!-- not run: WHY -->` when it needs what a
test does not have, `<!-- before: COMMAND -->` for what a reader has done by then, and `<!-- slow -->` when it takes so
long that its section is run by the slow tests only. What is not run is parsed all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import pytest

from hashshield.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")])


class Block(NamedTuple):
    """The command lines of one fence, comments and blank lines left out."""

    page: Path
    heading: str
    lines: tuple[str, ...]
    reason: str = ""
    """Why it is not run; empty when it is."""
    slow: bool = False


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def blocks() -> list[Block]:
    """Every console block of every page; a `before` is a block of its own."""
    return [block for page in PAGES for block in _blocks(page)]


def _blocks(page: Path) -> Iterator[Block]:
    heading, reason, slow, language, lines = "", "", False, None, list[str]()
    for line in map(str.lstrip, page.read_text(encoding="utf-8").splitlines()):  # a fence may stand in a list
        if language is not None:
            if line == "```":
                if language == "console":
                    yield Block(page, heading, tuple(lines), reason, slow)
                language, reason, slow, lines = None, "", False, []
            elif line.strip() and not line.startswith("#"):
                lines.append(line)
        elif line.startswith("```"):
            language = line[3:]
        elif said := re.fullmatch(r"<!-- not run: (.+) -->", line):
            reason = said[1]
        elif line == "<!-- slow -->":
            slow = True
        elif said := re.fullmatch(r"<!-- before: (.+) -->", line):
            yield Block(page, heading, (said[1],))
        elif line.strip():
            assert not reason, f"{page}: a 'not run' stands before something that is no block: {line}"
            assert not slow, f"{page}: a 'slow' stands before something that is no block: {line}"
            heading = line.lstrip("# ") if line.startswith("#") else heading


class Words(NamedTuple):
    """A command line taken apart."""

    environment: dict[str, str]
    program: str
    words: list[str]
    stdin: str
    stdout: str


def words_of(line: str) -> Words:
    """What a shell would make of it. Only assignments, words, comments, < and > are known here."""
    words = shlex.split(line, comments=True)
    environment = {}
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    files = {"<": os.devnull, ">": ""}
    for sign in files:
        if sign in words:
            at = words.index(sign)
            files[sign] = words[at + 1]
            del words[at : at + 2]
    assert not set("|;&$`") & set("".join(words)), f"more shell than this runner knows: {line}"
    return Words(environment, words[0], words[1:], files["<"], files[">"])


def run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """Run one command line in the working folder: hashshield in this process, make as a process."""
    environment, program, words, stdin, stdout = words_of(line)
    if program == "make":
        return _make(words, folder)
    assert program == "hashshield", f"{line}: mark its block as not run, and say why"
    with ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        for name, value in environment.items():
            patch.setenv(name, value)
        # Typer replaces the hook when an application is called.
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "stdin", stack.enter_context(open(stdin, encoding="utf-8")))
        out, err = (
            TextIOWrapper(stack.enter_context(open(path, "w+b")), encoding="utf-8")
            for path in (stdout or folder / ".out", folder / ".err")
        )
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        with pytest.raises(SystemExit) as ended:
            app(words, prog_name="hashshield")
        code = ended.value.code if isinstance(ended.value.code, int) else 0
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
        return Ended(code, "" if stdout else out.read(), err.read())


def _make(words: list[str], folder: Path) -> Ended:
    """`make demo` in full, with this interpreter as its environment; of other targets, that make knows them."""
    binaries = folder / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "hashshield").write_text(f"#!/bin/sh\nexec '{sys.executable}' -m hashshield \"$@\"\n")
    (binaries / "hashshield").chmod(0o755)
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (folder / "venv" / ".ready").touch()
    command = ["make", "-f", str(ROOT / "Makefile"), f"VENV={folder / 'venv'}", *words]
    if words != ["demo"]:
        command.append("--dry-run")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    finally:
        (binaries / "hashshield").unlink()
        binaries.rmdir()
        (folder / "venv" / ".ready").unlink()
        (folder / "venv").rmdir()
        (folder / "tests").unlink()
        (folder / "pyproject.toml").unlink()
    return Ended(done.returncode, done.stdout, done.stderr)
