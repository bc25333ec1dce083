"""`.ci/run` and `.ci/oldest` on a machine of stubs: what is left on the disk, what is said, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(
    BASH is None or shutil.which("timeout") is None, reason="bash and timeout are not both installed"
)

# The environment that `-m venv DIR` makes holds this script again, as its interpreter.
_PYTHON = """
echo "$*" >> "$STUB_ASKED"
case "$*" in
"-m venv "*)
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo large > "$3/torch.bin" ;;
*" install "*)
    echo "TMPDIR $TMPDIR" >> "$STUB_ASKED"
    [ -d "$TMPDIR" ] && echo wheel > "$TMPDIR/torch.whl"
    case "$*" in *"${STUB_REFUSED:-nothing refused}"*) echo "ERROR: no such thing" >&2; exit 1 ;; esac ;;
"-m pytest "*)
    touch "$STUB_ASKED.tests"
    ${STUB_TESTS:-true} ;;
esac
"""
_DF = """
echo 'Filesystem 1024-blocks Used Available Capacity Mounted'
echo "/dev/sda 100000000 0 ${STUB_FREE:-50000000} 50% /"
"""
_MAKE = """
echo "make $*" >> "$STUB_ASKED"
case "$1" in
test | test-long) ${STUB_TESTS:-true} ;;
*) "$PYTHON" -m venv "$VENV" && "$VENV/bin/python" -m pip install --quiet -e .[dev] ;;
esac
"""


class Machine:
    """A checkout of its own with the scripts of CI, and programs that tell what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        shutil.copytree(ROOT / ".ci", self.checkout / ".ci")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name, body in {"python3": _PYTHON, "df": _DF, "make": _MAKE}.items():
            (self.programs / name).write_text(f"#!{BASH}\n{body}")
            (self.programs / name).chmod(0o755)
        # What this one installs has tests of its own.
        (self.checkout / ".ci" / "tools").write_text(f"#!{BASH}\necho the tools\n")
        self.asked = folder / "asked"

    def start(self, script: str, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PIP_"))}
        environment |= {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": str(self.programs / "python3"),
            "STUB_ASKED": str(self.asked),
            **settings,
        }
        return subprocess.Popen(
            [self.checkout / ".ci" / script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, **settings: str) -> tuple[int, list[str]]:
        """The exit code, and the lines on standard output; nothing may be said on standard error."""
        process = self.start(script, settings)
        out, error = process.communicate(timeout=60)
        assert error == ""
        return process.returncode, out.splitlines()

    def requests(self) -> list[str]:
        return self.asked.read_text().splitlines()

    def left(self) -> set[str]:
        """What the checkout holds beside what it began with."""
        return {path.name for path in self.checkout.iterdir()} - {".ci", "pyproject.toml"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("tests", "code"), [("true", 0), ("false", 1)])
def test_the_oldest_environment_is_gone_at_the_end(tests: str, code: int, machine: Machine) -> None:
    ended, said = machine.run("oldest", STUB_TESTS=tests)
    assert (ended, said) == (code, ["Disk: 51 GB free with the oldest dependencies installed."])
    assert machine.left() == set()
    installs = [line for line in machine.requests() if " install " in line]
    assert len(installs) == 2
    assert all("--no-cache-dir" in line for line in installs)
    assert f"TMPDIR {machine.checkout}/.venv-oldest/tmp" in machine.requests()
    assert machine.requests()[-1].startswith("-m pytest -q -n 2 --dist worksteal -m not long and not slow tests/cli")


def test_an_oldest_environment_that_was_named_is_kept(machine: Machine, tmp_path: Path) -> None:
    venv = tmp_path / "kept"
    assert machine.run("oldest", CI_OLDEST_VENV=str(venv), STUB_TESTS="false")[0] == 1
    assert (venv / "torch.bin").exists()
    assert not (venv / "tmp").exists(), "but not the wheels"


def test_what_pip_says_is_told_and_nothing_is_left(machine: Machine) -> None:
    ended, said = machine.run("oldest", STUB_REFUSED="oldest.txt")
    assert ended == 0
    why = "pip could not install them in time (ERROR: no such thing)"
    assert said == [f"The oldest dependencies were not tried: {why}."]
    assert machine.left() == set()


def test_a_small_disk_is_left_alone_and_it_is_said(machine: Machine) -> None:
    ended, said = machine.run("oldest", STUB_FREE="15500000")
    why = "15 GB are free on this disk and they need 16"
    assert (ended, said) == (0, [f"The oldest dependencies were not tried: {why}."])
    assert not machine.asked.exists()
    assert machine.left() == set()


def test_what_a_killed_run_left_is_removed_first(machine: Machine) -> None:
    (machine.checkout / ".venv-oldest").mkdir()
    (machine.checkout / ".venv-oldest" / "torch.bin").touch()
    assert machine.run("oldest", STUB_FREE="1000000")[0] == 0
    assert machine.left() == set()


def test_a_run_that_is_ended_from_outside_leaves_nothing(machine: Machine) -> None:
    process = machine.start("oldest", {"STUB_TESTS": "exec sleep 60"})
    started = machine.asked.with_name("asked.tests")
    ends = time.monotonic() + 60
    while not started.exists():
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert machine.left() == set()
    assert "not tried" not in out


def test_each_stage_says_what_is_free(machine: Machine) -> None:
    ended, said = machine.run("run")
    assert ended == 0
    assert said == [
        "Disk: 51 GB free at the start of the tools.",
        "the tools",
        "Disk: 51 GB free at the end of the tools.",
        "Disk: 51 GB free at the start of the oldest dependencies.",
        "Disk: 51 GB free with the oldest dependencies installed.",
        "Disk: 51 GB free at the end of the oldest dependencies.",
        "Disk: 51 GB free at the start of the installation.",
        "Disk: 51 GB free at the end of the installation.",
        "Disk: 51 GB free at the start of the tests.",
        "Disk: 51 GB free at the end of the tests.",
        "Disk: 51 GB free at the start of the long tests.",
        "Disk: 51 GB free at the end of the long tests.",
    ]
    assert machine.left() == {".venv-ci"}
    assert not (machine.checkout / ".venv-ci" / "tmp").exists()
    asked = machine.requests()
    assert [line for line in asked if line.startswith("make")] == [
        "make .venv-ci/.ready VENV=.venv-ci",
        "make test VENV=.venv-ci",
        "make test-long VENV=.venv-ci",
    ]
    assert sum("mkdocs" in line or "selenium" in line or "ray[data]" in line for line in asked) == 3
    folders = {line for line in asked if line.startswith("TMPDIR")}
    assert folders == {f"TMPDIR {machine.checkout}/{name}/tmp" for name in (".venv-oldest", ".venv-ci")}


@pytest.mark.parametrize(("tests", "code", "stage"), [("exit 2", 2, "the tests"), ("true", 0, "the long tests")])
def test_the_end_is_that_of_the_tests(tests: str, code: int, stage: str, machine: Machine) -> None:
    ended, said = machine.run("run", CI_OLDEST="0", STUB_TESTS=tests)
    assert ended == code
    assert said[-1] == f"Disk: 51 GB free at the end of {stage}."
    assert not any("oldest" in line for line in said)


def test_tests_of_the_oldest_that_fail_end_the_run(machine: Machine) -> None:
    ended, said = machine.run("run", STUB_TESTS="exit 3")
    assert ended == 3
    assert said[-1] == "Disk: 51 GB free at the end of the oldest dependencies."
    assert machine.left() == set()


def test_what_is_optional_is_said_and_left_out(machine: Machine) -> None:
    ended, said = machine.run("run", CI_OLDEST="0", STUB_REFUSED="ray[data]")
    assert ended == 0
    assert "Ray Data could not be installed; the tests of --engine ray are skipped." in said
    assert not any("mkdocs" in line for line in said)


def test_an_installation_that_fails_ends_the_run_and_tells_what_is_free(machine: Machine) -> None:
    process = machine.start("run", {"CI_OLDEST": "0", "STUB_REFUSED": ".[dev]", "STUB_FREE": "900000"})
    out, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "ERROR: no such thing" in error
    assert out.splitlines()[-1] == "Disk: 0 GB free at the end of the installation."
    assert not (machine.checkout / ".venv-ci" / "tmp").exists()
