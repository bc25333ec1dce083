"""Survival of several photos: one line per transform, a bar on a terminal, and what classical hashes say."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hashshield.cli import survival
from hashshield.cli.layouts import PROTECT, SURVIVAL
from hashshield.cli.output import Report
from hashshield.types import CodeRow, Evaluation, Outcome, PerceptualRow, SurvivalRow

Make = Callable[..., Outcome]

CODES = (CodeRow("m:48", 48, "card", 24, 0, 0.3), CodeRow("n:16", 16, "card", 8, 0, 0.3))


def kept(transform: str, distance: int, passed: bool, model: str = "m:48") -> SurvivalRow:
    return SurvivalRow(transform, model, "card", distance, distance // 2, passed)


def row(name: str, *survived: SurvivalRow, hashes: tuple[PerceptualRow, ...] = ()) -> Evaluation:
    return Evaluation("o", name, "compared", codes=CODES, survival=survived, perceptual=hashes)


ROWS = [
    row("a", kept("flip", 24, True), kept("flip", 8, True, "n:16"), SurvivalRow("tiny", "m:48", "card", reason="no")),
    row("b", kept("flip", 20, False), kept("flip", 7, True, "n:16"), kept("tiny", 6, False)),
    row("c", kept("flip", 2, False), kept("flip", 6, False, "n:16"), SurvivalRow("tiny", "m:48", "card", reason="no")),
]


def test_one_line_for_each_transform_and_network() -> None:
    assert survival.lines(ROWS) == [
        survival.SurvivalLine("flip", "m:48", 48, (24, 20, 2), (12, 10, 1), 1),
        survival.SurvivalLine("flip", "n:16", 16, (8, 7, 6), (4, 3, 3), 2),
        survival.SurvivalLine("tiny", "m:48", 48, (6,), (3,), 0),
    ]
    assert survival.in_words(ROWS) == "flip 1/3, tiny 0/1"
    assert survival.summary(ROWS)[0] == {
        "transform": "flip",
        "model": "m:48",
        "kept": 1,
        "of": 3,
        "median_distance_from_original": 20,
        "median_distance_to_goal": 10,
    }


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "█" * 10 + "░" * 14), ("ascii", "#" * 10 + "." * 14)])
def test_a_terminal_gets_bars(encoding: str, bar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    out.encoding = encoding  # type: ignore[misc]
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    with Report("evaluate", SURVIVAL, data=out) as report:
        report.finish(ROWS)
    shown = out.getvalue().splitlines()
    assert shown[1].split() == ["flip", "m:48", "20", "of", "48", bar, "1", "of", "3"]
    assert shown[3].split()[-1] == "no"


def test_colours_tell_kept_from_lost() -> None:
    style: Any = survival.COLUMNS[-1].style
    assert [style(line) for line in survival.lines(ROWS)] == ["yellow", "yellow", "red"]
    assert style(survival.SurvivalLine("flip", "m", 48, (24,), (0,), 1)) == "green"
    assert style(survival.SurvivalLine("flip", "m", 48, (), (), 0)) == "bright_black"


def test_classical_hashes_of_several_photos() -> None:
    near, far = PerceptualRow("dHash", 64, 10, 1, True), PerceptualRow("dHash", 64, 10, 12, False)
    rows = [row("a", hashes=(near,)), row("b", hashes=(near,)), row("c", hashes=(far,))]
    assert survival.still_matching(rows) == [
        "dHash still matches 2 of 3 photos: median distance 1 of 64 bits, where 10 or fewer count as a match.",
        "HashShield does not hide photos from classical perceptual hashes.",
    ]
    assert survival.still_matching(rows[2:])[0].startswith("dHash no longer matches: distance 12")
    assert survival.still_matching(ROWS) == []


def test_protect_sums_up_what_survives(outcome: Make) -> None:
    near = PerceptualRow("dHash", 64, 10, 1, True)
    code = CodeRow("m:48", 48, "card", 24, 0, 0.3)
    rows = [
        outcome("a", codes=(code,), survival=(kept("jpeg q75", 24, True), kept("flip", 2, False)), perceptual=(near,)),
        outcome("b", codes=(code,), survival=(kept("jpeg q75", 24, True), kept("flip", 24, True)), perceptual=(near,)),
    ]
    said = PROTECT.footer(rows)
    assert "Kept after what services do: jpeg q75 2/2, flip 1/2." in said
    assert "HashShield does not hide photos from classical perceptual hashes." in said
    assert [line["kept"] for line in PROTECT.summary(rows)["survival"]] == [2, 1]
    assert not any("services" in line for line in PROTECT.footer([outcome()]))
