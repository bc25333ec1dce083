"""`hashshield doctor` as a command: its lines and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hashshield.pipeline.doctor import Finding

Run = Callable[..., Any]

GOOD = Finding("vault", "ok", "two originals")
SLOW = Finding("threads", "warning", "9 threads on 2 cores", "set OMP_NUM_THREADS=2")
BAD = Finding("ledger", "failed", "malformed", "bring it back from a backup")


@pytest.fixture
def findings(stand_in: Callable[..., None]) -> list[Finding]:
    """What the checks find."""
    found: list[Finding] = []

    def doctor(vault: Path | None, *, thorough: bool, progress: object) -> list[Finding]:
        return [*found, Finding("asked", "ok", f"{vault} {thorough}")]

    stand_in("hashshield.pipeline.doctor", doctor=doctor)
    return found


def test_all_is_well(run: Run, findings: list[Finding]) -> None:
    findings.append(GOOD)
    ended = run("doctor", "--thorough", "--vault", "v")
    assert ended.code == 0
    assert "vault\tok\ttwo originals\t" in ended.out
    assert "v True" in ended.out
    assert ended.err == "All is well.\n"


@pytest.mark.parametrize(
    ("more", "code", "says"), [([SLOW], 0, "0 problems, 1 warning."), ([SLOW, BAD], 1, "1 problem, 1 warning.")]
)
def test_what_is_amiss_is_counted_and_said(
    run: Run, findings: list[Finding], more: list[Finding], code: int, says: str
) -> None:
    findings += more
    ended = run("doctor")
    assert ended.code == code
    assert says in ended.err
    for finding in more:
        assert f"{finding.check}\t{finding.status}\t{finding.found}\t{finding.advice}" in ended.out


def test_as_json(run: Run, findings: list[Finding]) -> None:
    findings.append(BAD)
    ended = run("doctor", "--json")
    document = json.loads(ended.out)
    assert ended.code == 1
    assert document["results"][0] == {
        "check": "ledger",
        "status": "failed",
        "found": "malformed",
        "advice": "bring it back from a backup",
    }
    assert document["summary"]["counts"] == {"ok": 1, "warning": 0, "failed": 1}


def test_quiet_says_only_what_is_amiss(run: Run, findings: list[Finding]) -> None:
    assert run("doctor", "--quiet") == (0, "", "")
    findings += [GOOD, BAD]
    ended = run("doctor", "-q")
    assert (ended.code, ended.err) == (1, "1 problem, 0 warnings.\n")
    assert ended.out == "ledger\tfailed\tmalformed\tbring it back from a backup\n"
