"""Each exit code of the manual, by a command that ends with it for real: nothing of the pipeline is stood in for."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hashshield.cli.layouts import PROTECT
from hashshield.cli.output import Report
from hashshield.errors import StorageError
from hashshield.storage import calls
from hashshield.types import Outcome
from tiny_net import encoded, picture, write_tiny

Run = Callable[..., Any]


@pytest.fixture
def quick(tmp_path: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the tiny network and a vault in the user's configuration."""
    net = write_tiny(tmp_path / "tiny.safetensors")
    texts = {
        "model": f"{net}:16",
        "witness": "none",
        "vault": tmp_path / "vault",
        "device": "cpu",
        "preset": "invisible",
        # What the tiny network asks for is plain to see.
        "max_visible": "obvious",
    }
    lines = [*(f'{key} = "{value}"' for key, value in texts.items()), "steps = 4", "batch_size = 1"]
    own_settings.write_text("\n".join(lines))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def photo(name: str, seed: int = 1) -> bytes:
    data = encoded(picture(48, 48, seed=seed))
    Path(name).write_bytes(data)
    return data


def test_0_all_are_protected_or_were_already(run: Run, quick: Path) -> None:
    # A large tau and every step: an untrained network keeps some photos to itself.
    for seed in range(5):
        before = photo("a.png", seed)
        ended = run("protect", "a.png", "--tau", "0.5", "--steps", "60")
        if ended.code == 0:
            break
    assert (ended.code, "Protected 1 of 1 photo" in ended.err) == (0, True)
    assert Path("a.png").read_bytes() != before
    again = run("protect", "a.png")
    assert again.code == 0
    assert again.err.endswith("Nothing to do: 1 photo protected already.\n")
    assert run("restore", "a.png").code == 0
    assert Path("a.png").read_bytes() == before


def test_1_some_failed_and_the_others_were_done(run: Run, quick: Path) -> None:
    data = photo("a.png")
    Path("b.png").write_bytes(data[:200])
    ended = run("protect", "a.png", "b.png", "gone.png", "--accept-best")
    assert ended.code == 1
    assert Path("a.png").read_bytes() != data
    assert Path("b.png").read_bytes() == data[:200]
    assert ended.err.count("failed: ") == 2


def test_2_what_cannot_be_meant(run: Run, quick: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = photo("a.png")
    assert run("protect", "a.png", "--tau", "7").code == 2
    assert run("protect", "a.png", "--no-such-option").code == 2
    assert run("protect").code == 2
    with monkeypatch.context() as patch:
        patch.setenv("HASHSHIELD_STEPS", "many")
        assert run("protect", "a.png").code == 2
    own_settings.write_text("tau = ")
    assert run("protect", "a.png").code == 2
    assert Path("a.png").read_bytes() == before


def test_3_a_goal_was_not_reached_or_a_photo_is_not_known(run: Run, quick: Path) -> None:
    before = photo("a.png")
    # Half of the bits are sometimes turned by one step of one level, depending on the draw; all of them never.
    assert run("protect", "a.png", "--goal", "opposite", "--steps", "1", "--tau", "0.004").code == 3
    assert Path("a.png").read_bytes() == before
    assert run("verify", "a.png").code == 3
    assert run("verify", "a.png", "--original", "a.png").code == 3


def test_4_a_checkpoint_is_missing_or_broken(run: Run, quick: Path) -> None:
    before = photo("a.png")
    missing = run("protect", "a.png", "--model", "lite2-caltech101")
    assert missing.code == 4
    assert "hashshield models download lite2-caltech101" in missing.err
    Path("broken.safetensors").write_bytes(bytes(100))
    assert run("protect", "a.png", "--model", "broken.safetensors").code == 4
    assert Path("a.png").read_bytes() == before


@pytest.fixture
def ctrl_c_at_the_first_rename() -> Iterator[None]:
    """Ctrl-C just as the first photo is about to be replaced."""

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == "rename" and str(arguments[1]).endswith(".png"):
            calls.observe(None)
            signal.raise_signal(signal.SIGINT)

    # A shell that starts the tests in the background lets them ignore interruptions.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    calls.observe(observer)
    yield
    calls.observe(None)
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_at_the_first_rename")
def test_130_interrupted_and_the_same_command_goes_on(run: Run, quick: Path) -> None:
    befores = {name: photo(name, seed) for seed, name in enumerate(("a.png", "b.png", "c.png"))}
    ended = run("protect", ".", "--accept-best", "--batch-size", "1", "--report", "page.html")
    assert ended.code == 130
    done = len(ended.out.splitlines())
    assert done in (1, 2), "the one that was being written, and the one that was in the search by then"
    assert "Finishing the photos in work, starting no others; Ctrl-C again stops at once." in ended.err
    assert re.search(
        rf"Interrupted after {done} results?: every file is either untouched or complete; run the same", ended.err
    )
    assert sum(Path(name).read_bytes() != data for name, data in befores.items()) == done
    assert Path("page.html").read_text().count("<article") == done, "what was finished is shown"
    again = run("protect", ".", "--accept-best")
    assert again.code in (0, 3)
    assert again.out.count("already") == done
    assert all(Path(name).read_bytes() != data for name, data in befores.items())


def test_130_also_before_a_command_has_begun() -> None:
    code = f"""
import signal, sys
class Importing:
    def find_spec(self, name, *rest):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Importing())
sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from hashshield.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Interrupted before anything was done.\n")


def test_a_ledger_that_could_not_be_backed_up_is_one_line(run: Run, quick: Path) -> None:
    photo("a.png")

    def full(name: str, arguments: tuple[object, ...]) -> None:
        if name == "ledger.backup":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls.observe(full)
    try:
        ended = run("protect", "a.png", "--accept-best", "--tau", "0.5", "--quiet")
    finally:
        calls.observe(None)
    assert ended.code in (0, 3)
    (line,) = [line for line in ended.err.splitlines() if "backing up" in line]
    assert line.startswith("warning: backing up the ledger")
    assert run("restore", "a.png").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("how", ["> /dev/full", ">&-", "| true"])
@pytest.mark.parametrize("words", ["config show", "config show --json", "models list", "--version", "--help"])
def test_an_output_that_takes_nothing_is_one_line_and_1(how: str, words: str, tmp_path: Path) -> None:
    script = f'set -o pipefail; "$0" -m hashshield {words} {how}'
    ended = subprocess.run(
        ["bash", "-c", script, sys.executable], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "Traceback" not in ended.stderr
    if how == "| true":
        # Whether the reader is gone before or after the program has written is not ours to say.
        assert ended.returncode in (0, 1)
        return
    assert ended.returncode == 1
    said = [line for line in ended.stderr.splitlines() if "standard output cannot be written" in line]
    assert len(said) == 1
    assert ("it is closed" if how == ">&-" else "the disk is full") in said[0]


class Full(io.StringIO):
    """An output on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("as_json", [False, True])
def test_what_can_be_said_is_said_beside_a_full_output(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Outcome("a.png", "protected"), Outcome("b.png", "short", reason="try more steps")]
    with pytest.raises(typer.Exit) as ended, Report("protect", PROTECT, as_json=as_json, data=Full()) as report:
        report.finish(rows)
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err.splitlines()
    assert sum("standard output cannot be written: the disk is full" in line for line in said) == 1
    assert any("try more steps" in line for line in said) == (not as_json)
    report = Report("protect", PROTECT, as_json=as_json, data=Full())
    report.finish(rows)
    with pytest.raises(typer.Exit) as ended, report:
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130


@pytest.mark.parametrize("ends", ["full", "bug", "interrupted"])
def test_a_report_page_that_cannot_be_written_leaves_the_results(
    ends: str, run: Run, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    photo("a.png")

    def fail(*given: object, **named: object) -> None:
        raise ZeroDivisionError("page") if ends == "bug" else StorageError("page.html: the disk is full")

    monkeypatch.setattr("hashshield.report.html.put_page", fail)
    if ends == "interrupted":

        def protect(paths: Any, request: Any, *, progress: Any, **rest: Any) -> Any:
            progress.done(Outcome("a.png", "protected"))
            raise KeyboardInterrupt

        monkeypatch.setattr("hashshield.pipeline.protect.protect", protect)
    ended = run("protect", "a.png", "--accept-best", "--tau", "0.5", "--report", "page.html", "--json")
    assert ended.code == (130 if ends == "interrupted" else 1)
    document = json.loads(ended.out)
    assert [Path(row["path"]).name for row in document["results"]] == ["a.png"]
    assert ("internal error" if ends == "bug" else "the disk is full") in ended.err
    assert "Traceback" not in ended.err
