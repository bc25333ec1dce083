"""What the README says of commands, keys, codes and numbers is what the application does."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hashshield.cli.app import app
from hashshield.cli.layouts import PROTECT
from hashshield.config import SETTINGS, read_file
from hashshield.datasets import open_dataset
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.pipeline.rows import Audit, CopyPair, Neighbour, OtherCopy, SemanticMatch
from hashshield.transforms import pillow_view
from hashshield.types import (
    CodeRow,
    Evaluation,
    Outcome,
    PerceptualRow,
    Restoration,
    SurvivalRow,
    Verification,
    WitnessRow,
)
from tools.describe import describe
from tools.man import pages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    """Return a page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def rows(text: str, heading: str, table: int = 0) -> list[list[str]]:
    """Cells of the body of a section's table, backquotes removed."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = tables[table].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_the_readme_can_be_read_in_two_minutes_and_says_first_whom_it_helps() -> None:
    assert len(README.encode()) <= 10_000
    plain = " ".join(README.split())
    places = [
        plain.index(text)
        for text in ("**It helps if**", "**It does not help**", "make demo", "make test", "pipx install")
    ]
    assert places == sorted(places)
    for limit in (
        "hide faces",
        "starts with the published file",
        "Programs made to find copies",
        "news or as evidence",
    ):
        assert limit in plain[: places[2]], limit
    assert README.index("download.pytorch.org/whl/cpu") < README.index("With CUDA")


def test_what_the_readme_says_is_reached_is_what_was_measured() -> None:
    rows_of = json.loads((ROOT / "benchmarks" / "results" / "visible-small.json").read_text())["rows"]
    found = {row["change"]: row for row in rows_of}
    ours = found["balanced"]
    kept = {name: count or "none" for name, count in ours["survived"].items()}
    assert ours["protected"] == ours["photos"]
    for said in (
        f"Of {ours['photos']} photos of 300 to 500 pixels, {kept['jpeg q90']} were still unlinked after JPEG q90, "
        f"{kept['jpeg q75']} after JPEG q75, {kept['half size']} at half the size and {kept['half + jpeg q75']} after "
        "both",
        f"(median visibility {ours['visibility']:.2f}, against {found['jpeg q90']['visibility']:.2f})",
    ):
        assert said in " ".join(README.split())


def test_what_the_readme_says_of_features_is_what_was_measured() -> None:
    document = json.loads((ROOT / "benchmarks" / "results" / "goals-balanced-lite0-caltech101.json").read_text())
    (row,) = [row for row in document["results"] if row.get("preset") == "balanced"]
    said = f"at rank {row['rank_features']} in the median of {row['photos']} photos"
    assert said in " ".join(README.split())


def test_what_the_readme_says_of_cleaning_is_what_was_measured() -> None:
    document = json.loads((ROOT / "benchmarks" / "results" / "cleaner-balanced.json").read_text())
    (row,) = [row for row in document["rows"] if row["photos"] == "protected, cleaned"]
    first = round(row["first"] * row["count"])
    text = " ".join(README.split())
    assert f"that learnt from {document['environment']['pairs']} pairs" in text
    assert f"{first} of {row['count']} originals were found first again" in text


def test_what_the_readme_says_of_strangers_is_what_was_measured() -> None:
    path = ROOT / "benchmarks" / "results" / "transfer-regnet-caltech101.json"
    rows_of = [row for row in json.loads(path.read_text())["rows"] if row["preset"] == "strong"]
    first = {row["held_out"]: round(row["first"] * row["photos"]) for row in rows_of}
    assert {row["photos"] for row in rows_of} == {100}
    said = (
        f"of 100 originals, a residual network that took no part in the search still found {first['residual']} first, "
        f"one that reads thumbnails of 64 pixels {first['regnet-caltech101:48']}"
    )
    assert said in " ".join(README.split())


@pytest.mark.parametrize(
    ("heading", "table", "kind"),
    [
        ("protect", 0, Outcome),
        ("protect", 1, CodeRow),
        ("protect", 2, SurvivalRow),
        ("protect", 3, WitnessRow),
        ("protect", 4, PerceptualRow),
        ("verify", 0, Verification),
        ("evaluate", 0, Evaluation),
        ("audit", 0, Audit),
        ("audit", 1, Neighbour),
        ("audit", 2, CopyPair),
        ("audit", 3, SemanticMatch),
        ("audit", 4, OtherCopy),
        ("restore", 0, Restoration),
    ],
)
def test_json_tables_have_the_keys_of_the_rows(heading: str, table: int, kind: Any) -> None:
    assert sorted(row[0] for row in rows(page("json"), heading, table)) == sorted(field.name for field in fields(kind))


def test_exit_codes_are_those_of_the_manual() -> None:
    manual = pages(describe(app, "hashshield"))["hashshield.1"].partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    assert [row[0] for row in rows(page("configuration"), "Exit codes")] == re.findall(
        r"^\.B (\d+)$", manual, re.MULTILINE
    )


def test_settings_are_those_of_the_application() -> None:
    expected = [[setting.key, setting.env, setting.default_text] for setting in SETTINGS.values()]
    assert rows(page("configuration"), "Configuration") == expected


def test_the_example_of_a_configuration_file_is_taken(tmp_path: Path) -> None:
    (example,) = blocks(page("configuration"), "toml")
    path = tmp_path / "config.toml"
    path.write_text(example)
    assert read_file(path)["tau"] == 0.02


def test_the_example_of_a_table_is_taken(tmp_path: Path) -> None:
    (example,) = blocks(page("training"), "csv")
    path = tmp_path / "photos.csv"
    path.write_text(example)
    for name in ("garden/rose.jpg", "harbour.jpg", "unknown.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = open_dataset("own", path)
    assert found.classes == ("boat", "flower", "garden", "sea")
    assert found.labels.sum(1).tolist() == [2, 2, 0]


def test_maps_are_those_of_the_card() -> None:
    (model,) = open_models(["lite0-caltech101:48"])
    table = rows(page("networks"), "Networks")
    for row, measured in zip(table, (model.card.map, model.card.map_unseen), strict=True):
        assert row[1:] == [f"{measured[str(bits)]:.3f}" for bits in (16, 24, 32, 48)]


@cache
def picture(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(ROOT / "docs" / "images" / name) as photo:
        return np.array(photo.convert("RGB"))


PICTURES = {
    "protected.jpg": "original.jpg",
    "portrait-protected.jpg": "portrait.jpg",
    "shows-protected.jpg": "shows.jpg",
}


@pytest.mark.parametrize("protected", PICTURES)
def test_the_numbers_of_a_picture_are_those_of_the_pictures(protected: str) -> None:
    before, after = picture(PICTURES[protected]), picture(protected)
    (model,) = open_models(["lite0-caltech101:48"])
    bits = [
        [
            bits_of(model.model(pillow_view(pixels, model.card.input, view)[None]).code[0].numpy())
            for view in ("card", "squash")
        ]
        for pixels in (before, after)
    ]
    changed = min(np.count_nonzero(one != other) for one, other in zip(*bits, strict=True))
    shown = {row[0]: row[1:] for row in rows(page("faq"), "How visible is it?")}[protected]
    assert shown[0] == f"{changed} of 48"
    assert shown[2] == f"{psnr_db(after, before):.1f} dB"
    assert shown[3] == f"{ssim(after, before):.3f}"
    assert shown[5] == str(linf_levels(after, before))


def test_every_picture_of_the_readme_has_its_numbers() -> None:
    shown = re.findall(r"docs/images/([\w-]*protected\.jpg)", README)
    assert shown == list(PICTURES) == [row[0] for row in rows(page("faq"), "How visible is it?")]


def test_pictures_are_small_and_the_original_is_the_fixture() -> None:
    images = ROOT / "docs" / "images"
    assert sum(path.stat().st_size for path in images.iterdir()) < 300_000
    assert (images / "original.jpg").read_bytes() == (ROOT / "tests" / "data" / "kangaroo.jpg").read_bytes()


def test_the_terminal_asks_no_other_host_and_shows_what_commands_print_today() -> None:
    picture = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    assert not re.findall(r"(?:href|src|url)[=(]\"?https?:", picture)
    shown = html.unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", picture))).replace("\xa0", " ")
    for text in ("hashshield protect photos/", "Bits changed", "After JPEG", "Protected 3 of 3 photos", "3 restored."):
        assert text in shown
    for column in PROTECT.columns:
        assert not column.legend or column.legend[:30] in shown, "run docs/images/terminal.py again"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    named = re.findall(r"`((?:docs|tests|src)/[\w./-]+)`", text)
    for link in links:
        assert (path.parent / link).exists(), link
    for link in named:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_word_promises_more_than_was_measured(path: Path) -> None:
    assert not re.findall(r"\b(?:safe|undetectable|invisibly|guaranteed?|military)\b", path.read_text(), re.IGNORECASE)
