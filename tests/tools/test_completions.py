"""The completion scripts in real shells: keys are typed on a terminal, and the completed line is looked at.

In most tests `hashshield` is a stand-in that answers the two questions the scripts ask and writes down each time it is
started: so the tests also see that completing commands and options starts nothing. In the last ones it is the program
itself, beside a torch that cannot be imported unseen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")

ROOT = Path(__file__).parents[2]
COMPLETIONS = ROOT / "completions"

STAND_IN = """#!/bin/sh
echo "$*" >> "$STARTS"
case "$*" in
    'models list --names') printf '%s\\n' lite0-caltech101 lite0-caltech101:16 lite0-caltech101:48 other ;;
    'models info --classes') printf '%s\\n' airplanes sunflower 'water lily' ;;
esac
"""

PROGRAM = f"""#!/bin/sh
PYTHONPATH="$TRAPS" exec '{sys.executable}' -m hashshield "$@"
"""
TRAP = """import os
with open(os.environ["STARTS"], "a") as starts:
    starts.write(f"{__name__} was imported\\n")
raise ImportError(__name__)
"""

SETUP = {
    "bash": [
        "bind 'set bell-style none' 'set enable-bracketed-paste off' 2>/dev/null",
        "bind 'set show-all-if-ambiguous off'",
        f"source {COMPLETIONS}/hashshield.bash",
    ],
    "zsh": [
        f"fpath=({COMPLETIONS} $fpath)",
        "unsetopt beep auto_menu auto_remove_slash; LISTMAX=1000; bindkey -e",
        "autoload -Uz compinit && compinit -D -u",
    ],
    "fish": ["set -g fish_autosuggestion_enabled 0", f"source {COMPLETIONS}/hashshield.fish"],
}
START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i", "-C", "function fish_prompt; echo -n '> '; end"],
}
SHELLS = tuple(SETUP)

# What is typed before TAB, and the words of the line afterwards.
CASES = [
    ("hashshield prot", ["protect"]),
    ("hashshield models inf", ["models", "info"]),
    ("hashshield originals exp", ["originals", "export"]),
    ("hashshield protect --target-cl", ["protect", "--target-class"]),
    ("hashshield protect --model a --targ=x --accept", ["protect", "--model", "a", "--targ=x", "--accept-best"]),
    ("hashshield models list --na", ["models", "list", "--names"]),
    ("hashshield --vers", ["--version"]),
    ("hashshield protect --method rnm-", ["protect", "--method", "rnm-paper"]),
    ("hashshield protect --goal opp", ["protect", "--goal", "opposite"]),
    ("hashshield protect pho", ["protect", "photos/"]),
    ("hashshield protect photos/a", ["protect", "photos/a b.jpg"]),
    ("hashshield protect --target photos/a", ["protect", "--target", "photos/a b.jpg"]),
    ("hashshield protect a.jpg --output pho", ["protect", "a.jpg", "--output", "photos/"]),
]
ASKING = [
    ("hashshield protect --model oth", ["protect", "--model", "other"]),
    ("hashshield verify --model lite0-caltech101:4", ["verify", "--model", "lite0-caltech101:48"]),
    ("hashshield protect --model=oth", ["protect", "--model=other"]),
    ("hashshield protect --model=lite0-caltech101:1", ["protect", "--model=lite0-caltech101:16"]),
    ("hashshield models info oth", ["models", "info", "other"]),
    ("hashshield protect --target-class sun", ["protect", "--target-class", "sunflower"]),
    ("hashshield protect --target-class wat", ["protect", "--target-class", "water lily"]),
]


# What the application itself answers.
ANSWERED = [
    ("hashshield mod", ["models"]),
    ("hashshield protect --strip-g", ["protect", "--strip-gps"]),
    ("hashshield protect --model lite0-caltech101:4", ["protect", "--model", "lite0-caltech101:48"]),
    ("hashshield models info lite2-caltech101:3", ["models", "info", "lite2-caltech101:32"]),
    ("hashshield protect --target-class sunfl", ["protect", "--target-class", "sunflower"]),
]


def installed(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed (.ci/run installs it where it can)")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos, and the stand-in on the path."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "hashshield"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a b.jpg").touch()
    # The program itself must see no setting of the machine.
    for name in [name for name in os.environ if name.startswith(("HASHSHIELD_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    for name, value in {"TERM": "xterm", "HOME": str(tmp_path), "PS1": "> ", "LC_ALL": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_in(shell: str, path: str, lines: list[str], folder: Path) -> str:
    """What a shell on a terminal shows when these lines are typed, one after the other."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(path, [shell, *START[shell]])
    shown = b""

    def until(marker: bytes, count: int = 1) -> None:
        nonlocal shown
        deadline = time.monotonic() + 20
        while shown.count(marker) < count:
            assert time.monotonic() < deadline, shown.decode(errors="replace")
            shown += os.read(terminal, 65536)

    try:
        until(b"> ")
        for number, line in enumerate([*SETUP[shell], *lines]):
            # The marker is written in two parts, so that its echo is not taken for it.
            os.write(terminal, f"{line}\recho DO''NE{number}.\r".encode())
            until(f"DONE{number}.".encode())
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return shown.decode(errors="replace")


def completed(shell: str, typed: list[str], folder: Path) -> list[list[str]]:
    """The words of every line after TAB: the cursor goes to the front, and the line becomes printf's arguments."""
    path = installed(shell)
    lines = [f"{line}\t\x01printf '<%s>' {number}: \x05 ;echo" for number, line in enumerate(typed)]
    shown = type_in(shell, path, lines, folder)
    found = dict(re.findall(r"<(\d+):><hashshield>((?:<[^<>\r\n]*>)*)", shown))
    return [re.findall(r"<([^<>]*)>", found.get(str(number), "")) for number in range(len(typed))]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_and_starts_nothing(shell: str, folder: Path) -> None:
    assert completed(shell, [line for line, _ in CASES], folder) == [words for _, words in CASES]
    assert not (folder / "starts").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_asks_for_networks_and_classes_once(shell: str, folder: Path) -> None:
    assert completed(shell, [line for line, _ in ASKING], folder) == [words for _, words in ASKING]
    assert sorted((folder / "starts").read_text().splitlines()) == ["models info --classes", "models list --names"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_asks_the_program_which_imports_no_torch(
    shell: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bin" / "hashshield").write_text(PROGRAM)
    for name in ("torch", "torchvision"):
        (folder / "traps" / name).mkdir(parents=True)
        (folder / "traps" / name / "__init__.py").write_text(TRAP)
    monkeypatch.setenv("TRAPS", f"{folder / 'traps'}{os.pathsep}{ROOT / 'src'}")
    monkeypatch.setenv("HASHSHIELD_CACHE", str(folder / "cache"))
    assert completed(shell, [line for line, _ in ANSWERED], folder) == [words for _, words in ANSWERED]
    assert not (folder / "starts").exists(), (folder / "starts").read_text()
    # The trap does catch what imports torch.
    subprocess.run([folder / "bin" / "hashshield", "verify", ROOT / "tests/data/lotus.jpg"], capture_output=True)
    assert (folder / "starts").read_text() == "torch was imported\n"


def fish(typed: list[str]) -> list[list[str]]:
    """What fish offers for every line, without descriptions."""
    path = installed("fish")
    asked = "".join(f"echo 'LINE'; complete -C '{line}'\n" for line in typed)
    script = f"source {COMPLETIONS}/hashshield.fish\n{asked}"
    ended = subprocess.run([path, "--no-config", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    blocks = ended.stdout.split("LINE\n")[1:]
    return [[line.partition("\t")[0] for line in block.splitlines()] for block in blocks]


def test_fish_knows_where_it_is(folder: Path) -> None:
    first, nested, taken = fish(["hashshield ", "hashshield originals ", "hashshield protect --quiet "])
    assert {"protect", "verify", "models", "config"} <= set(first)
    assert "photos/" not in first
    assert nested == ["export", "forget", "list", "prune", "repair"]
    assert {"bin/", "photos/"} <= set(taken)
    assert "protect" not in taken


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "hashshield.bash"), ("zsh", "_hashshield"), ("fish", "hashshield.fish")]
)
def test_scripts_are_free_of_syntax_errors(shell: str, name: str) -> None:
    ended = subprocess.run([installed(shell), "-n", str(COMPLETIONS / name)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
