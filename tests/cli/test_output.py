from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hashshield.cli.layouts import PROTECT, RESTORE
from hashshield.cli.output import Report, combine, exit_code, plain, reasons
from hashshield.cli.terminal import say, shortened
from hashshield.errors import CheckpointError, GoalError, StorageError
from hashshield.types import Outcome, Restoration

Make = Callable[..., Outcome]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(rows: list[Any], error: BaseException | None = None, **how: Any) -> int:
    """The exit code of a report that was given these rows and then this error."""
    layout = how.pop("layout", PROTECT)

    code = 0
    try:
        with Report("protect", layout, **how) as report:
            for row in rows:
                report.add(row)
            if error:
                raise error
    except typer.Exit as ended:
        code = ended.exit_code
    assert error is None or code, "an error was swallowed"
    return code


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        (["protected", "already", "skipped", "planned"], 0),
        (["restored", "compared"], 0),
        (["protected", "failed"], 1),
        (["short"], 3),
        (["partial"], 3),
        (["not_protected"], 3),
        (["unknown"], 3),
        (["original"], 3),
        (["short", "failed", "protected"], 1),
    ],
)
def test_exit_code_of_statuses(statuses: list[str], code: int) -> None:
    assert exit_code(statuses) == code


@given(st.lists(st.sampled_from([130, 4, 2, 1, 3, 0])))
def test_exit_codes_combine_by_precedence(codes: list[int]) -> None:
    expected = next((code for code in (130, 4, 2, 1, 3, 0) if code in codes), 0)
    assert combine(codes) == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 1),
        (KeyboardInterrupt(), 130),
        (CheckpointError("x: broken; fetch it again"), 4),
        (GoalError("target.jpg: no photo"), 2),
        (StorageError("disk full"), 1),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_keeps_the_rows_that_were_finished(
    capsys: pytest.CaptureFixture[str], outcome: Make, error: BaseException | None, code: int, as_json: bool
) -> None:
    assert report([outcome(), outcome("b.jpg", "failed", reason="truncated")], error, as_json=as_json) == code
    said = capsys.readouterr()
    if as_json:
        document = json.loads(said.out)
        assert [row["path"] for row in document["results"]] == ["a.jpg", "b.jpg"]
        assert ("error" in document) == (error is not None)
        if error:
            assert document["error"]["exit_code"] == code
            assert document["error"]["message"]
    else:
        assert said.out.startswith("a.jpg\tprotected\t24 of 48\tkept\t\t0.62 faint\t47.2\t0\t40\n")
        assert "failed: b.jpg: truncated" in said.err
    if error and str(error):
        assert f"hashshield protect: {error}\n" in said.err
    if isinstance(error, KeyboardInterrupt):
        assert "Interrupted after 2 results" in said.err
        assert "run the same command again" in said.err


def test_a_bug_stays_a_traceback(outcome: Make) -> None:
    with pytest.raises(ZeroDivisionError):
        report([outcome()], ZeroDivisionError())


def test_document_holds_every_field_and_null_for_infinite(capsys: pytest.CaptureFixture[str], outcome: Make) -> None:
    assert report([outcome(psnr_db=math.inf, ssim=math.nan)], as_json=True) == 0
    said = capsys.readouterr()
    assert said.err == ""
    document = json.loads(said.out, parse_constant=pytest.fail)
    assert list(document) == ["version", "command", "results", "summary"]
    assert (document["version"], document["command"]) == (1, "protect")
    (row,) = document["results"]
    assert set(row) == set(Outcome.__slots__)
    assert row["psnr_db"] is None
    assert row["ssim"] is None
    assert row["codes"] == [
        {
            "model": "lite0-caltech101:48",
            "bits": 48,
            "view": "crop",
            "distance_from_original": 24,
            "distance_to_goal": 0,
            "min_margin": 0.3,
            "class_rank": None,
            "cosine": None,
            "cosine_threshold": None,
            "purpose": None,
        }
    ]
    assert row["survival"][0]["transform"] == "jpeg q75"


def test_a_name_that_is_not_utf8_comes_back_from_json(capsys: pytest.CaptureFixture[str], outcome: Make) -> None:
    name = os.fsdecode(b"\xff\x1b[2J\xe2\x80\xae.jpg")
    report([outcome(name)], as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert os.fsencode(json.loads(out)["results"][0]["path"]) == os.fsencode(name)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_on_a_terminal(outcome: Make, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    name = "in/[link=x]\x1b[31m.jpg"
    assert report([outcome(name), outcome("b.jpg", "short", reason="one view kept its code")], data=stream) == 3
    text = stream.getvalue()
    assert "\x1b[31m" not in text
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # rich's own bold headings
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    if width >= 80:
        assert re.search(r"b\.jpg +short +24 of 48 +kept +0\.62 faint", text)
        assert r"in/[link=x]\x1b[31m.jpg" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_numbers_are_whole_and_names_keep_both_ends_at_every_width(
    outcome: Make, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    name = "photos/holidays on the coast/" + "n02018207_American_coot_" * 7 + "7.jpg"
    report([outcome(name), outcome("photos/漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字.jpg")], data=stream)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    *headings, first, second = text.splitlines()
    assert len(headings) == 2, headings
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert re.search(r"^photos.*\u2026.*7\.jpg +protected +24 of 48 +kept +0\.62 faint *$", first)
    assert re.search(r"字\.jpg +protected +24 of 48 +kept +0\.62 faint *$", second)


def test_a_name_is_shortened_in_its_middle_to_the_cells_there_are() -> None:
    assert shortened("a.jpg", 5) == "a.jpg"
    assert shortened("photos/lotus.jpg", 10) == "pho\u2026us.jpg"
    assert shortened("photos/lotus.jpg", 10, mark="...") == "ph...s.jpg"
    for width in range(12):
        for text in ("photos/lotus.jpg", "漢字漢字漢字漢字", "é" * 20):
            assert cell_len(shortened(text, width)) <= width


def test_the_most_visible_three_are_shown_however_long_the_folder_is(
    outcome: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    visible = [0.5 + (i in (31, 33, 35)) * i / 100 for i in range(40)]
    report([outcome(f"{i:03}.jpg", visibility=visible[i], visibility_word="faint") for i in range(40)], data=stream)
    shown = re.findall(r"^\d{3}", stream.getvalue(), re.MULTILINE)
    assert shown == [f"{i:03}" for i in (*range(20), 31, 33, 35)]
    err = capsys.readouterr().err
    assert "... and 17 more" in err
    assert "Changes: visibility 0.50 in the median, 0.85 faint in 035.jpg." in err


def test_a_terminal_explains_its_columns_and_says_how_long_it_took(
    outcome: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    report([outcome(), outcome("b.jpg")], data=Terminal())
    explained, first, *rest = capsys.readouterr().err.splitlines()
    assert explained.startswith("Bits changed: unrelated photos differ in about half. After JPEG: ")
    changes = r"Changes: visibility 0\.62 in the median, 0\.62 faint in a\.jpg\."
    assert re.fullmatch(rf"Protected 2 of 2 photos\. {changes} .* s a photo\.", first)
    assert len(rest) == 2
    report([outcome()], verbose=True, data=(details := Terminal()))
    assert re.sub(r"\x1b\[[0-9;]*m", "", details.getvalue()).split()[-3:] == ["47.2", "0", "40"]


def test_colours_mean_something_and_go_with_no_color(outcome: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [outcome(), outcome("b.jpg", "short", survives=False), outcome("c.jpg", "failed", reason="truncated")]
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLORTERM", raising=False)
    coloured, without = Terminal(), Terminal()
    report(rows, data=coloured)
    for number, word in ((32, "protected"), (33, "short"), (31, "failed"), (32, "kept"), (33, "lost")):
        assert f"\x1b[{number}m{word}" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    report(rows, data=without)
    assert not re.search(r"\x1b\[3\dm", without.getvalue())


def test_a_long_folder_is_cut_but_never_what_went_wrong(
    outcome: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rows = [outcome(f"{i:03}.jpg") for i in range(60)] + [outcome("bad.jpg", "failed", reason="truncated")]
    stream = Terminal()
    report(rows, data=stream)
    text = stream.getvalue()
    assert "019.jpg" in text
    assert "020.jpg" not in text
    assert "bad.jpg" in text
    assert "... and 40 more" in capsys.readouterr().err


def test_off_a_terminal_every_row_is_a_line_of_fields(outcome: Make, capsys: pytest.CaptureFixture[str]) -> None:
    report([outcome(f"{i}\t\n.jpg") for i in range(50)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 50
    assert {line.count("\t") for line in lines} == {8}
    assert lines[7].startswith("7\\t\\n.jpg\tprotected\t")


def test_quiet_says_only_what_went_wrong(outcome: Make, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        outcome(),
        outcome("b.txt", "skipped", reason="not an image"),
        outcome("c.jpg", "failed", reason="truncated"),
    ]
    assert report(rows, quiet=True) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "failed: c.jpg: truncated\n"


def test_reasons_are_one_line_each_and_shared_ones_one_line_together(outcome: Make) -> None:
    rows = [outcome(f"{i}.txt", "skipped", reason=f"{i}.txt: not an image") for i in range(30)]
    rows.append(outcome("a.jpg", "failed", reason="a.jpg: truncated; copy it again"))
    rows.append(outcome("b.jpg", "failed", reason="truncated; copy it again"))
    assert reasons(rows) == [
        "failed: a.jpg: truncated; copy it again",
        "failed: b.jpg: truncated; copy it again",
        "skipped: not an image (0.txt and 29 more)",
    ]


def test_what_is_bad_in_the_same_way_is_one_line_and_each_is_named_where_no_table_is(outcome: Make) -> None:
    rows = [outcome(f"{i}.jpg", "short", reason="one view kept its code") for i in range(30)]
    assert reasons(rows) == ["short: one view kept its code (0.jpg and 29 more)"]
    assert len(reasons(rows, only_bad=True)) == 30


def test_rows_of_other_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([Restoration("a.jpg", "restored"), Restoration("b.jpg", "failed", "edited")], layout=RESTORE) == 1
    said = capsys.readouterr()
    assert said.out == "a.jpg\trestored\nb.jpg\tfailed\n"
    assert said.err == "failed: b.jpg: edited\n1 restored, 1 failed.\n"


def test_plain_values() -> None:
    assert plain({"a": (1, 2.5), Path("b"): [Path("c/d"), None, True, -math.inf]}) == {
        "a": [1, 2.5],
        "b": [str(Path("c/d")), None, True, None],
    }


def test_a_line_is_broken_between_words_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "30")
    say("failed: photos/a-rather-long-file-name.jpg: truncated; copy it again")
    assert stream.getvalue() == "failed:\nphotos/a-rather-long-file-name.jpg:\ntruncated; copy it again\n"
