"""`.ci/tools` installs what it can and never ends in failure, whatever the machine's package manager does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "tools"
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(
    BASH is None or shutil.which("timeout") is None, reason="bash and timeout are not both installed"
)


def ended(
    folder: Path, *, user: int, apt: str | None, seconds: int = 5
) -> tuple[subprocess.CompletedProcess[str], str]:
    """The script on a machine that has only these programs, and what was asked of apt-get."""
    programs = {"id": f"echo {user}"}
    if apt is not None:
        programs["apt-get"] = f'echo "$@" >> {folder}/asked; {apt}'
    for name, body in programs.items():
        (folder / name).write_text(f"#!{BASH}\n{body}\n")
        (folder / name).chmod(0o755)
    for name in ("bash", "timeout", "sleep", "touch", "chmod"):
        (folder / name).symlink_to(str(shutil.which(name)))
    environment = {**os.environ, "PATH": str(folder), "CI_APT_SECONDS": str(seconds)}
    process = subprocess.run([str(BASH), str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60)
    asked = folder / "asked"
    return process, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize(("user", "apt"), [(1000, "exit 0"), (0, None)])
def test_without_root_or_apt_nothing_is_tried(user: int, apt: str | None, tmp_path: Path) -> None:
    process, asked = ended(tmp_path, user=user, apt=apt)
    assert (process.returncode, process.stderr, asked) == (0, "", "")
    assert "mandoc zsh fish chromium chromium-driver libjpeg-turbo-progs. Their tests are skipped" in process.stdout


def test_what_cannot_be_installed_is_named(tmp_path: Path) -> None:
    process, asked = ended(tmp_path, user=0, apt='[[ $* == *zsh ]] || { echo "E: unreachable" >&2; exit 100; }')
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines() == [
        f"{tool} could not be installed; its tests are skipped."
        for tool in ("mandoc", "fish", "chromium", "chromium-driver", "libjpeg-turbo-progs")
    ]
    assert [line.split()[-1] for line in asked.splitlines()] == [
        "update",
        "mandoc",
        "zsh",
        "fish",
        "chromium",
        "chromium-driver",
        "libjpeg-turbo-progs",
    ]


def test_a_package_manager_that_hangs_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    process, _ = ended(tmp_path, user=0, apt="exec sleep 50", seconds=1)
    assert process.returncode == 0
    assert process.stdout.count("could not be installed") == 6
    assert time.monotonic() - started < 30
