"""Nothing is imported from the current folder, which may be a folder of somebody's photos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hashshield.import_path import trusted
from planted import CUSTOM, OURS, RAYS, STANDARD, plant, ran
from tiny_net import encoded, picture

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(40, 48, seed=1)))
    return folder


def run(photos: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    more = {"HASHSHIELD_VAULT": str(photos.parent / "vault"), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *command], cwd=photos, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )


def words(tiny: Path) -> list[str]:
    """A command that needs every package: it reads photos and runs a network."""
    return ["evaluate", "a.png", "a.png", "--json", "--model", f"{tiny}:16"]


def test_the_module_form(photos: Path, tiny: Path) -> None:
    marker = plant(photos, *OURS, *RAYS, *STANDARD, *CUSTOM)
    done = run(photos, "-m", "hashshield", *words(tiny))
    assert ran(marker) == ""
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["psnr_db"] is None


def test_the_command_with_an_empty_entry_in_pythonpath(photos: Path, tiny: Path) -> None:
    """As `export PYTHONPATH=$PYTHONPATH:/more` makes one where there was none."""
    marker = plant(photos, *OURS, *RAYS, *STANDARD)
    command = photos.parent / "bin" / "hashshield"
    command.parent.mkdir()
    command.write_text("from hashshield.__main__ import main\nmain()\n", encoding="utf-8")
    done = run(photos, str(command), *words(tiny), PYTHONPATH=f"{os.pathsep}/nowhere")
    assert ran(marker) == ""
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is of Python 3.11")
def test_processes_that_are_started(photos: Path) -> None:
    marker = plant(photos, "pickle", "multiprocessing", "tempfile", "selectors")
    code = photos.parent / "start.py"
    code.write_text(
        "from hashshield.import_path import leave_current_folder_out\n"
        "leave_current_folder_out()\n"
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:\n"
        "        print(pool.submit(os.getcwd).result())\n",
        encoding="utf-8",
    )
    done = run(photos, str(code))
    assert done.stdout.strip() == str(photos), done.stderr
    assert ran(marker) == ""


def test_entries_that_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert trusted(["", ".", "lib", str(tmp_path), str(link), "/lib", str(SOURCE)]) == ["/lib", str(SOURCE)]
    monkeypatch.chdir(SOURCE)
    assert trusted(["", str(SOURCE), str(tmp_path)]) == [str(SOURCE), str(tmp_path)], "a checkout may be worked in"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert trusted(["", "/lib"]) == ["/lib"]
