from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from hashshield.cli.layouts import EVALUATE, PROTECT, RESTORE, VERIFY
from hashshield.types import (
    CodeRow,
    Evaluation,
    Outcome,
    Restoration,
    Status,
    SurvivalRow,
    Verdict,
    Verification,
    WitnessRow,
)

Make = Callable[..., Outcome]


def test_protect_says_the_verdicts_in_plain_words(outcome: Make) -> None:
    seen = {0: (1.312, "some"), 1: (0.2, "none")}
    rows = [
        outcome(
            f"{i}.jpg",
            survives=i < 2,
            psnr_db=45.0 + i,
            **dict(zip(("visibility", "visibility_word"), seen.get(i, (0.62, "faint")), strict=True)),
        )
        for i in range(5)
    ]
    rows += [outcome("s.jpg", "short"), outcome("n.txt", "skipped"), outcome("f.jpg", "failed")]
    assert PROTECT.footer(rows) == [
        "Protected 5 of 7 photos; 1 skipped, 1 short, 1 failed. Changes: visibility 0.62 in the median, 1.31 some in "
        "0.jpg.",
        "lite0-caltech101:48: 5 of 5 unlinked from their originals, 2 of 5 also after JPEG q75. No other network was "
        "asked; see --witness.",
        "Other networks may still match these photos, and no service is known to run this network.",
    ]


def test_a_target_is_spoken_of_as_a_target(outcome: Make) -> None:
    lines = PROTECT.footer([outcome(goal="class sunflower"), outcome(goal="class sunflower", status="partial")])
    assert lines[1].startswith("lite0-caltech101:48: 1 of 2 at their goal, 2 of 2 also after JPEG q75. ")


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ([], "No photos were found; nothing was changed."),
        (["planned", "planned", "already"], "Would protect 2 photos; 1 already. Nothing was written."),
        (["already"] * 3, "Nothing to do: 3 photos protected already."),
        (["already", "skipped"], "Nothing to do: 1 photo protected already. 1 skipped."),
        (["already", "short"], "Protected 0 of 2 photos; 1 already, 1 short."),
    ],
)
def test_runs_that_write_nothing(outcome: Make, statuses: list[str], line: str) -> None:
    assert PROTECT.footer([outcome(status=status) for status in statuses]) == [line]


def test_what_files_still_carry_is_said(outcome: Make) -> None:
    rows = [
        outcome(unprotected_copies=("EXIF thumbnail",), links_to_owner=("GPS", "serial number")),
        outcome(links_to_owner=("GPS",)),
    ]
    *_, last = PROTECT.footer(rows)
    assert last.endswith(
        "Still unprotected inside or beside 1 file: EXIF thumbnail (--strip-copies). Can still name you in 2 files: "
        "GPS, serial number (--strip-gps, --strip-metadata)."
    )


def test_no_verdict_promises_more_than_was_measured(outcome: Make) -> None:
    text = " ".join(PROTECT.footer([outcome(survives=False), outcome("b.jpg", "partial")])).lower()
    assert not [word for word in ("safe", "undetectable", "anonym", "guarantee") if word in text]


def test_protect_numbers(outcome: Make) -> None:
    rows = [
        outcome(psnr_db=40.0, visibility=0.7),
        outcome(psnr_db=50.0, distance_from_original=21, survives=False),
        outcome(psnr_db=math.inf, distance_to_goal=3, status="partial", survival=()),
        outcome(
            status="short",
            distance_from_original=1,
            distance_to_goal=30,
            psnr_db=20.0,
            visibility=9.0,
            survives=False,
        ),
        outcome(status="failed"),
    ]
    assert PROTECT.summary(rows) == {
        "counts": {"protected": 2, "already": 0, "planned": 0, "skipped": 0, "short": 1, "partial": 1, "failed": 1},
        "median_visibility": 0.62,
        "highest_visibility": 0.7,
        "median_psnr_db": 50.0,
        "least_distance_from_original": 21,
        "worst_distance_to_goal": 3,
        "witness": [],
        "planned_seconds": None,
        "after_reencoding": {"transform": "jpeg q75", "passed": 1, "measured": 2},
        "survival": [
            {
                "transform": "jpeg q75",
                "model": "lite0-caltech101:48",
                "kept": 1,
                "of": 2,
                "median_distance_from_original": 20,
                "median_distance_to_goal": 2,
            }
        ],
    }
    planned = [outcome(status="planned", seconds=1.5), outcome(status="planned", seconds=2.0)]
    assert PROTECT.summary(planned)["planned_seconds"] == 3.5


def cells(layout: Any, row: object) -> dict[str, str]:
    return {column.header: column.cell(row) for column in layout.columns}


def test_rows_without_measurements_have_empty_cells(outcome: Make) -> None:
    assert cells(PROTECT, outcome(status="failed")) == {
        "File": "a.jpg",
        "Status": "failed",
        "Bits changed": "",
        "After JPEG": "",
        "Found by others": "",
        "Visible": "",
        "PSNR dB": "",
        "To goal": "",
        "Steps": "",
    }
    assert cells(PROTECT, outcome(psnr_db=math.inf))["PSNR dB"] == "identical"
    assert cells(PROTECT, outcome())["Visible"] == "0.62 faint"


def test_verify_counts_and_prints_the_code_of_an_unknown_photo() -> None:
    code = CodeRow("m:48", 48, "crop", 23, 0, 0.1)
    rows = [
        Verification("a.jpg", "protected", source="ledger", goal="away", codes=(code,)),
        Verification("b.jpg", "not_protected", source="original", distance_from_original=1),
        Verification("c.jpg", "unknown", hex_codes={"m:48": "00ff00ff00ff"}),
    ]
    assert cells(VERIFY, rows[0]) == {
        "File": "a.jpg",
        "Status": "protected",
        "Bits changed": "23 of 48",
        "Known from": "ledger",
        "Goal": "away",
        "To goal": "",
    }
    assert cells(VERIFY, rows[1])["Status"] == "not protected"
    assert cells(VERIFY, rows[1])["Bits changed"] == "1"
    counts, advice = VERIFY.footer(rows)
    assert counts == "1 protected, 1 not protected, 1 unknown."
    assert advice.startswith("What to do: take the linked copy down if you can. Protect your photo at the size")
    assert VERIFY.details(rows[2]) == ["c.jpg: m:48 00ff00ff00ff"]
    assert VERIFY.footer([]) == ["No photos were found."]
    assert VERIFY.footer([rows[0]]) == ["1 protected."]
    assert "hashshield restore" in VERIFY.footer([Verification("b.jpg", "not_protected", source="ledger")])[1]
    assert VERIFY.summary(rows)["counts"] == {
        "protected": 1,
        "not_protected": 1,
        "original": 0,
        "unknown": 1,
        "skipped": 0,
        "failed": 0,
    }


def test_evaluate_shows_the_worst_and_lists_all() -> None:
    codes = (CodeRow("m:48", 48, "crop", 23, 0, 0.1), CodeRow("m:16", 16, "squash", 4, 0, 0.1))
    row = Evaluation(
        "a.jpg",
        "b.jpg",
        "compared",
        visibility=0.344,
        visibility_word="none",
        psnr_db=44.44,
        ssim=0.98765,
        linf_levels=7,
        changed_pixels=0.5,
        codes=codes,
    )
    assert list(cells(EVALUATE, row).values()) == [
        "a.jpg", "b.jpg", "compared", "4 of 16", "", "0.34 none", "44.4", "0.9877", "7", "50%"
    ]  # fmt: skip
    assert EVALUATE.footer([row]) == ["Compared 1 photo on m:16, m:48."]
    assert EVALUATE.details(row)[0].startswith("b.jpg: m:48 crop: 23 of 48 bits from its own code")
    after_jpeg = SurvivalRow("jpeg q75", "m:48", "card", 20, 2, False)
    assert EVALUATE.footer([replace(row, survival=(after_jpeg,))]) == [
        "Compared 1 photo on m:16, m:48; 0 of 1 kept after JPEG q75."
    ]
    assert EVALUATE.summary([row]) == {
        "counts": {"compared": 1, "failed": 0},
        "median_visibility": 0.344,
        "median_psnr_db": 44.44,
        "survival": [],
    }


def test_restore_of_nothing() -> None:
    assert RESTORE.footer([]) == ["Nothing was kept for these."]
    assert RESTORE.footer([Restoration(str(Path("a")), "restored")]) == ["1 restored."]


def test_the_statuses_are_those_of_the_types() -> None:
    """Written out in the layouts, so that --help need not import the types."""
    assert tuple(PROTECT.summary([])["counts"]) == get_args(Status)
    assert tuple(VERIFY.summary([])["counts"]) == get_args(Verdict)


def test_the_witness_has_a_line_and_a_number(outcome: Make) -> None:
    def said(distance: int) -> tuple[WitnessRow, ...]:
        return (WitnessRow("w:48", 48, "card", distance, distance > 21, None, 8, distance <= 8),)

    rows = [outcome(witness=said(3)), outcome(witness=said(24)), outcome(status="short", witness=said(30))]
    line = "w:48, never searched on, still finds 1 of 2 (13.5 of 48 bits changed in the median)."
    assert PROTECT.footer(rows)[1].endswith(line)
    assert not any("No other network" in text for text in PROTECT.footer(rows))
    assert PROTECT.summary(rows)["witness"] == [
        {"model": "w:48", "bits": 48, "unlinked": 1, "of": 2, "median_distance": 13.5, "finds": 1, "judged": 2}
    ]
    assert any("w:48, never searched on: 3 of 48 bits" in text for text in PROTECT.details(rows[0]))
    assert any("still found: the nearest of its reference codes is 8 bits away" in t for t in PROTECT.details(rows[0]))
    (cell,) = [column.cell for column in PROTECT.columns if column.header == "Found by others"]
    assert [cell(row) for row in rows] == ["1 of 1", "0 of 1", "0 of 1"]
    one = PROTECT.footer([outcome()])
    assert one[0] == "Protected 1 of 1 photo. Its change: visibility 0.62 faint."
    assert "No other network was asked" in one[1]


def test_several_witnesses_none_and_one_without_a_verdict(outcome: Make) -> None:
    def asked(*distances: int) -> tuple[WitnessRow, ...]:
        return tuple(WitnessRow(f"w{i}:48", 48, "card", d, d > 21, None, 8, d <= 8) for i, d in enumerate(distances))

    (cell,) = [column.cell for column in PROTECT.columns if column.header == "Found by others"]
    rows = [outcome(witness=asked(3, 9)), outcome(witness=asked(24, 8)), outcome(witness=asked(9, 9))]
    assert [cell(row) for row in rows] == ["1 of 2", "1 of 2", "0 of 2"]
    assert PROTECT.footer(rows)[1].endswith("One or more of these 2 networks still find 2 of 3 photos.")
    without = outcome(witness=(WitnessRow("w:48", 48, "card", 24, True),))
    assert cell(without) == ""
    assert "w:48, never searched on, has no reference codes to judge by (24 of 48 bits" in PROTECT.footer([without])[1]
    assert any("unlinked; no verdict" in text for text in PROTECT.details(without))
    nobody = [outcome(no_witness="the search used every installed network"), outcome("s.jpg", "short")]
    assert [cell(row) for row in nobody] == ["no witness", ""]
    assert PROTECT.footer(nobody)[1].endswith(" No witness: the search used every installed network.")
    assert any("no witness: the search used" in text for text in PROTECT.details(nobody[0]))


def test_the_summary_names_the_transform_of_every_receipt() -> None:
    from hashshield.transforms.pillow import JPEG_Q75

    assert PROTECT.summary([])["after_reencoding"]["transform"] == JPEG_Q75.name
