from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from hashshield.cli.layouts import EVALUATE, PROTECT, RESTORE, VERIFY
from hashshield.types import CodeRow, Evaluation, Outcome, Restoration, Status, Verdict, Verification, WitnessRow

Make = Callable[..., Outcome]


def test_protect_says_the_verdicts_in_plain_words(outcome: Make) -> None:
    rows = [outcome(f"{i}.jpg", survives=i < 2, psnr_db=45.0 + i) for i in range(5)]
    rows += [outcome("s.jpg", "short"), outcome("n.txt", "skipped"), outcome("f.jpg", "failed")]
    assert PROTECT.footer(rows) == [
        "Protected 5 of 7 photos; median PSNR 47.0 dB (higher is less visible), the most changed is 0.jpg, 45.0 dB. "
        "1 skipped, 1 short, 1 failed.",
        "Networks used in the search (lite0-caltech101:48): 5 of 5 unlinked from their originals; after re-encoding as "
        "JPEG q75, 2 of 5 still are.",
        "A network never used in the search: none was asked; see --witness.",
        "No service is known to run these networks; another network may still match these photos.",
    ]


def test_a_target_is_spoken_of_as_a_target(outcome: Make) -> None:
    lines = PROTECT.footer([outcome(goal="class sunflower"), outcome(goal="class sunflower", status="partial")])
    assert lines[1] == (
        "Networks used in the search (lite0-caltech101:48): 1 of 2 at their goal; after re-encoding as JPEG q75, "
        "2 of 2 still are."
    )


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        ([], "No photos were found; nothing was changed."),
        (["planned", "planned", "already"], "Would protect 2 photos; nothing was written. 1 already."),
        (["already"] * 3, "Nothing to do: 3 photos protected already."),
        (["already", "skipped"], "Nothing to do: 1 photo protected already. 1 skipped."),
        (["already", "short"], "Protected 0 of 2 photos. 1 already, 1 short."),
    ],
)
def test_runs_that_write_nothing(outcome: Make, statuses: list[str], line: str) -> None:
    assert PROTECT.footer([outcome(status=status) for status in statuses]) == [line]


def test_what_files_still_carry_is_said(outcome: Make) -> None:
    rows = [
        outcome(unprotected_copies=("EXIF thumbnail",), links_to_owner=("GPS", "serial number")),
        outcome(links_to_owner=("GPS",)),
    ]
    *_, copies, links = PROTECT.footer(rows)
    assert copies == "Files that still hold unprotected copies (EXIF thumbnail): 1; see --strip-copies."
    assert links == "Files that keep what can name you (GPS, serial number): 2; see --strip-gps and --strip-metadata."


def test_no_verdict_promises_more_than_was_measured(outcome: Make) -> None:
    text = " ".join(PROTECT.footer([outcome(survives=False), outcome("b.jpg", "partial")])).lower()
    assert not [word for word in ("safe", "undetectable", "anonym", "guarantee") if word in text]


def test_protect_numbers(outcome: Make) -> None:
    rows = [
        outcome(psnr_db=40.0),
        outcome(psnr_db=50.0, distance_from_original=21, survives=False),
        outcome(psnr_db=math.inf, distance_to_goal=3, status="partial", survival=()),
        outcome(status="short", distance_from_original=1, distance_to_goal=30, psnr_db=20.0, survives=False),
        outcome(status="failed"),
    ]
    assert PROTECT.summary(rows) == {
        "counts": {"protected": 2, "already": 0, "planned": 0, "skipped": 0, "short": 1, "partial": 1, "failed": 1},
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
        "From own": "",
        "To goal": "",
        "PSNR dB": "",
        "Steps": "",
        "Seconds": "",
    }
    assert cells(PROTECT, outcome(psnr_db=math.inf))["PSNR dB"] == "identical"


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
        "Known from": "ledger",
        "Goal": "away",
        "From own": "23/48",
        "To goal": "",
    }
    assert cells(VERIFY, rows[1])["Status"] == "not protected"
    assert cells(VERIFY, rows[1])["From own"] == "1"
    assert VERIFY.footer(rows) == ["1 protected, 1 not protected, 1 unknown.", "c.jpg: m:48 00ff00ff00ff"]
    assert VERIFY.footer([]) == ["No photos were found."]
    many = VERIFY.footer([Verification(f"{i}.jpg", "unknown", hex_codes={"m:48": "00"}) for i in range(50)])
    assert (len(many), many[-1]) == (22, "... and 30 more; --json has all codes.")
    assert VERIFY.summary(rows)["counts"] == {
        "protected": 1,
        "not_protected": 1,
        "unknown": 1,
        "skipped": 0,
        "failed": 0,
    }


def test_evaluate_shows_the_worst_and_lists_all() -> None:
    codes = (CodeRow("m:48", 48, "crop", 23, 0, 0.1), CodeRow("m:16", 16, "squash", 4, 0, 0.1))
    row = Evaluation(
        "a.jpg", "b.jpg", "compared", psnr_db=44.44, ssim=0.98765, linf_levels=7, changed_pixels=0.5, codes=codes
    )
    assert list(cells(EVALUATE, row).values()) == ["a.jpg", "b.jpg", "compared", "4/16", "44.4", "0.9877", "7", "50%"]
    assert EVALUATE.footer([row]) == [
        "b.jpg: m:48 crop: 23 of 48 bits differ",
        "b.jpg: m:16 squash: 4 of 16 bits differ",
    ]
    assert EVALUATE.summary([row]) == {
        "counts": {"compared": 1, "failed": 0},
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
        return (WitnessRow("w:48", 48, "card", distance, distance > 21),)

    rows = [outcome(witness=said(3)), outcome(witness=said(24)), outcome(status="short", witness=said(30))]
    line = "A network never used in the search (w:48): 1 of 2 unlinked; median distance 13.5 of 48 bits."
    assert line in PROTECT.footer(rows)
    assert not any("none was asked" in text for text in PROTECT.footer(rows))
    assert PROTECT.summary(rows)["witness"] == [
        {"model": "w:48", "bits": 48, "unlinked": 1, "of": 2, "median_distance": 13.5}
    ]
    assert any("w:48, never searched on: 3 of 48 bits" in text for text in PROTECT.details(rows[0]))
    one = PROTECT.footer([outcome()])
    assert one[0] == "Protected 1 of 1 photo; median PSNR 47.2 dB (higher is less visible)."
    assert "none was asked" in one[2]


def test_the_summary_names_the_transform_of_every_receipt() -> None:
    from hashshield.transforms.pillow import JPEG_Q75

    assert PROTECT.summary([])["after_reencoding"]["transform"] == JPEG_Q75.name
