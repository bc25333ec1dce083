"""Every measured result has one command, and is made again when its search has changed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from hashshield.attacks import version_of
from hashshield.attacks.presets import PRESETS
from tools import results
from tools.results import KEPT, RESULTS, Result, check, run, stale

ROOT = Path(__file__).parents[2]
MADE = Result("goals-tiny", "bench goals --data {cifar10} --json", 1.5, "--photos 2", prints=True)


def written(versions: dict[str, int] | None) -> str:
    environment = {} if versions is None else {"search_versions": versions}
    return json.dumps({"results": [{"goal": "away", "environment": environment}]})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands in place of those that measure: each prints a fresh result, or if it is `broken` ends with 3."""
    made: list[Sequence[str]] = []

    def fake(command: Sequence[str], *, cwd: Path, stdout: Any = None) -> CompletedProcess[bytes]:
        made.append(command[3:])
        if "broken" not in command and stdout is not None:
            stdout.write(written({"balanced": version_of("balanced")}).encode())
        return CompletedProcess(command, 3 if "broken" in command else 0)

    monkeypatch.setattr(results.subprocess, "run", fake)
    return made


def test_a_result_is_made_once_and_again_when_its_search_or_its_command_changes(
    tmp_path: Path, calls: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, words = tmp_path / "results", {"cifar10": "cifar/"}
    assert stale(MADE, folder) == "not made yet"
    list(run([MADE], tmp_path, words))
    assert calls == [["bench", "goals", "--data", "cifar/", "--json"]]
    assert stale(MADE, folder) is None
    assert list(run([MADE], tmp_path, words)) == ["goals-tiny: fresh"]
    assert len(calls) == 1
    other = Result(MADE.name, f"{MADE.command} --photos 9", 1, prints=True)
    assert stale(other, folder) == "made by another command"
    monkeypatch.setattr("hashshield.attacks.CHANGED_IN", {"balanced": 1000})
    assert stale(MADE, folder) == "the search changed since (balanced)"
    list(run([MADE], tmp_path, words))
    assert len(calls) == 2
    (folder / "goals-tiny.json").write_text(written(None))
    assert stale(MADE, folder) == "the search changed since (all)"
    (folder / "goals-tiny.json.unfinished").write_text("{}")
    assert stale(MADE, folder) == "begun and not finished"


def test_a_command_that_fails_leaves_no_result(tmp_path: Path, calls: list[Sequence[str]]) -> None:
    broken = Result("goals-tiny", "bench goals broken --json", 1, prints=True)
    with pytest.raises(SystemExit, match=r"goals-tiny: .* ended with 3"):
        list(run([broken], tmp_path, {}))
    assert [path.name for path in (tmp_path / "results").iterdir()] == []
    silent = Result("tau-tiny", "bench tau", 1)
    with pytest.raises(SystemExit, match=r"wrote no .*tau-tiny\.json"):
        list(run([silent], tmp_path, {}))


def test_every_result_file_has_a_command_or_a_reason() -> None:
    folder = ROOT / "benchmarks" / "results"
    assert not [line for line in check(folder) if line.endswith("not in tools/results.py")]
    files = {path.stem for path in folder.glob("*.json")}
    assert set(KEPT) <= files, "reasons for files that are there"
    names = [result.name for result in RESULTS]
    assert len(names) == len(set(names))
    assert not set(names) & set(KEPT)


def test_a_result_named_after_a_preset_is_measured_with_it() -> None:
    named = [(result, name) for result in RESULTS for name in PRESETS if name in result.name.split("-")]
    assert named
    assert all(f"--preset {name}" in result.command for result, name in named)


def test_every_command_is_one_that_the_application_parses() -> None:
    """With its smallest options too, and every word in braces known."""
    from typer.main import get_command

    from hashshield.cli.bench import app

    group = get_command(app)
    assert hasattr(group, "commands")
    for result in RESULTS:
        words = {name: name for name in (*results.DATA, "output")}
        arguments = results._arguments(result, words, quick=True)
        assert not re.search(r"[{}]", " ".join(arguments))
        assert arguments[0] == "bench"
        group.commands[arguments[1]].make_context(arguments[1], arguments[2:])


@pytest.mark.long
def test_a_command_runs_at_its_smallest(capfd: pytest.CaptureFixture[str]) -> None:
    assert results.main(["run", "--quick", "--only", "retrieval-vgg11-cifar10"]) == 0
    assert "retrieval-vgg11-cifar10: made in" in capfd.readouterr().out


@pytest.mark.slow
def test_all_commands_run_at_their_smallest(capfd: pytest.CaptureFixture[str]) -> None:
    assert results.main(["run", "--quick"]) == 0
    assert capfd.readouterr().out.count(": made in") == len(RESULTS)
