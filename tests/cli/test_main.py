"""The program as a process: what it imports, how it ends, what it prints where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hashshield.cli.app import app
from tools.describe import describe, walk

HEAVY = ("torch", "torchvision", "numpy", "PIL", "piexif", "safetensors", "platformdirs", "sqlite3")
COMMANDS = [command.path[1:] for command in walk(describe(app, "hashshield"))]
SOURCE = Path(__file__).parents[2] / "src"


def python(*words: str, **how: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "80", **how.pop("environment", {})}  # type: ignore[dict-item]
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, **how)  # type: ignore[call-overload,no-any-return]


def test_no_help_imports_a_heavy_module() -> None:
    code = f"""
import sys
from hashshield.cli.app import app
for path in {COMMANDS!r}:
    try:
        app([*path, "--help"], prog_name="hashshield")
    except SystemExit as ended:
        assert ended.code in (0, None), (path, ended.code)
    found = [name for name in {HEAVY!r} if name in sys.modules]
    assert not found, (path, found)
"""
    ended = python("-W", "error", "-c", code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Usage: hashshield") == len(COMMANDS)


@pytest.mark.parametrize(
    ("words", "line", "absent"),
    [(["models", "list", "--names"], "lite0-caltech101:48", 4), (["models", "info", "--classes"], "sunflower", 2)],
)
def test_the_names_a_shell_asks_for_import_no_network_library(words: list[str], line: str, absent: int) -> None:
    code = f"""
import sys
from hashshield.cli.app import app
try:
    app({words!r}, prog_name="hashshield")
except SystemExit as ended:
    assert ended.code in (0, None), ended.code
assert not [name for name in {HEAVY[:absent]!r} if name in sys.modules]
"""
    ended = python("-W", "error", "-c", code)
    assert ended.returncode == 0, ended.stderr
    assert line in ended.stdout.splitlines()


@pytest.mark.parametrize("module", ["hashshield", "hashshield.__main__"])
def test_help_is_printed_to_standard_output(module: str) -> None:
    ended = python("-W", "error", "-m", module, "--help")
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "protect" in ended.stdout
    assert "experimental" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


def test_version() -> None:
    ended = python("-m", "hashshield", "--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("hashshield")


def test_patterns_are_left_to_the_commands() -> None:
    """On Windows Typer would match them, even the name of a file that exists, `IMG[1].jpg`, with another, IMG1.jpg."""
    code = """
from hashshield.cli import app
app.app = lambda **named: print(named)
from hashshield.__main__ import main
main()
"""
    assert "'windows_expand_args': False" in python("-c", code).stdout


def test_a_typo_is_answered_with_the_nearest() -> None:
    ended = python("-m", "hashshield", "protekt", "a.jpg")
    assert ended.returncode == 2
    assert "Did you mean 'protect'?" in ended.stderr


def test_a_terminal_without_utf8_gets_escapes_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "é").mkdir()
    environment = {
        "PYTHONIOENCODING": "ascii",
        "HOME": str(tmp_path / "é"),
        "XDG_CONFIG_HOME": str(tmp_path / "é"),
        "HASHSHIELD_VAULT": str(tmp_path / "é"),
    }
    ended = python("-m", "hashshield", "config", "show", environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert "\\xe9" in ended.stdout


@pytest.mark.parametrize("words", [["config", "show"], ["config", "show", "--json"], ["protect", "--help"]])
def test_a_reader_that_went_away_is_no_traceback(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hashshield", *words]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of a child is asked with wait4")
def test_help_takes_at_most_1_3_times_a_bare_application(tmp_path: Path) -> None:
    """Processor time, the least of several runs in turn: wall time on a busy machine says little."""
    depth = [path for path in COMMANDS if path]
    groups = sorted({path[0] for path in depth if len(path) == 2})
    lines = ["import typer", "app = typer.Typer()"]
    lines += [f"app.add_typer(typer.Typer(), name='{name}')" for name in groups]
    for number, path in enumerate(path for path in depth if path[0] not in groups or len(path) == 2):
        group = f"app.registered_groups[{groups.index(path[0])}].typer_instance" if len(path) == 2 else "app"
        lines += [f"@{group}.command('{path[-1]}')", f"def c{number}(name: str, count: int = 1):", "    'Do it.'"]
    bare = tmp_path / "bare.py"
    bare.write_text("\n".join([*lines, "app()"]))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def spent(*words: str) -> float:
        process = subprocess.Popen([sys.executable, *words, "--help"], env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    pairs = [(spent("-m", "hashshield"), spent(str(bare))) for _ in range(16)][1:]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    assert ours <= 1.3 * theirs, f"{ours:.3f} s against {theirs:.3f} s"
