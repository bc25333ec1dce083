"""The completion script of PowerShell: its tables are taken apart here, and it is run where PowerShell is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hashshield.cli.app import app
from tools.describe import Command, Option, describe, walk
from tools.powershell import powershell_script

ROOT = describe(app, "hashshield")
SCRIPT = powershell_script(ROOT)
QUOTE = "['\u2018\u2019\u201a\u201b]"
TOKEN = re.compile(
    rf"(?P<comment>\#[^\n]*)|(?P<text>{QUOTE}(?:[^'\u2018-\u201b]|{QUOTE}{QUOTE})*{QUOTE})"
    r'|(?P<double>"[^"]*")|(?P<open>@\{|@\(|\$\(|[({\[])|(?P<close>[)}\]])|(?P<other>[^\s(){}\[\]\'"]+)|(?P<space>\s+)'
)


def tokens(text: str) -> list[tuple[str, str]]:
    """The script as PowerShell cuts it up, as far as quotes and brackets go; it must be used up to its end."""
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, text[at : at + 60]
        found.append((str(match.lastgroup), match.group()))
        at = match.end()
    return [(kind, word) for kind, word in found if kind not in ("comment", "space")]


def value(text: str) -> str:
    return re.sub(f"({QUOTE}){QUOTE}", r"\1", text[1:-1])


def table(name: str) -> dict[str, Any]:
    """One of the hash tables: each key with its strings, in order."""
    (body,) = re.findall(rf"^    \${name} = @\{{\n(.*?)^    \}}$", SCRIPT, re.MULTILINE | re.DOTALL)
    found = {}
    for line in body.splitlines():
        (kind, key), *rest = tokens(line)
        assert kind == "text"
        assert rest[0] == ("other", "=")
        found[value(key)] = [value(word) for kind, word in rest if kind == "text"]
    return found


def test_brackets_and_quotes_close() -> None:
    closing = {"@{": "}", "{": "}", "@(": ")", "$(": ")", "(": ")", "[": "]"}
    open_ones: list[str] = []
    for kind, word in tokens(SCRIPT):
        if kind == "open":
            open_ones.append(closing[word])
        elif kind == "close":
            assert open_ones.pop() == word
    assert not open_ones


def test_every_command_and_option_is_offered_with_its_text() -> None:
    commands, options, values = table("commands"), table("options"), table("values")
    for command in walk(ROOT):
        path = " ".join(command.path)
        assert commands.get(path, []) == [child.path[-1] for child in command.commands]
        pairs = [(name, option.help) for option in command.options for name in option.names]
        assert list(zip(options[path][::2], options[path][1::2], strict=True)) == pairs
        for option in command.options:
            for name in option.names:
                assert (f"{path} {name}" in values) == (option.takes != "nothing")
                assert not option.words or values[f"{path} {name}"] == list(option.words)
    assert values["hashshield protect --model"] == ["models list --names"]
    assert values["hashshield protect --output"] == [""]
    assert "ui" in commands["hashshield"]


def test_quotes_in_a_text_are_doubled_curly_ones_too() -> None:
    option = Option(("--a",), "", "the user's \u2019own\u2019 $HOME `n", False, False, "nothing")
    root = Command(("hashshield",), ("",), (), (), (option,), (), ())
    (line,) = [line for line in powershell_script(root).splitlines() if "--a" in line]
    assert "'the user''s \u2019\u2019own\u2019\u2019 $HOME `n'" in line


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="PowerShell (pwsh) is not installed")
def test_powershell_completes(tmp_path: Path) -> None:
    (tmp_path / "hashshield.ps1").write_text(SCRIPT, encoding="utf-8")
    for line, wanted in {
        "hashshield pro": ["protect"],
        "hashshield protect --pre": ["--preset"],
        "hashshield protect --preset in": ["invisible"],
        "hashshield models li": ["list"],
    }.items():
        code = f". ./hashshield.ps1; (TabExpansion2 '{line}').CompletionMatches.CompletionText"
        said = subprocess.run(["pwsh", "-NoProfile", "-Command", code], cwd=tmp_path, capture_output=True, text=True)
        assert said.stdout.split() == wanted, said.stderr
