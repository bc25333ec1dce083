"""What the README says of commands, keys, codes and numbers is what the application does."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hashshield.cli.app import app
from hashshield.config import SETTINGS, read_file
from hashshield.datasets import open_dataset
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.transforms import pillow_view
from hashshield.types import (
    Audit,
    CodeRow,
    Evaluation,
    Neighbour,
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
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """Cells of the body of a section's table, backquotes removed."""
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = tables[table].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_the_excerpt_of_help_is_what_help_says() -> None:
    (excerpt,) = blocks(README, "text")
    shown = dict(re.split(r" {2,}", line, maxsplit=1) for line in excerpt.splitlines())
    commands = describe(app, "hashshield").commands
    assert shown == {command.path[-1]: " ".join(command.help[0].split()) for command in commands}


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
        ("restore", 0, Restoration),
    ],
)
def test_json_tables_have_the_keys_of_the_rows(heading: str, table: int, kind: Any) -> None:
    assert sorted(row[0] for row in rows(heading, table)) == sorted(field.name for field in fields(kind))


def test_exit_codes_are_those_of_the_manual() -> None:
    page = pages(describe(app, "hashshield"))["hashshield.1"].partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    assert [row[0] for row in rows("Exit codes")] == re.findall(r"^\.B (\d+)$", page, re.MULTILINE)


def test_settings_are_those_of_the_application() -> None:
    expected = [[setting.key, setting.env, setting.default_text] for setting in SETTINGS.values()]
    assert rows("Configuration") == expected


def test_the_example_of_a_configuration_file_is_taken(tmp_path: Path) -> None:
    (example,) = blocks(README, "toml")
    path = tmp_path / "config.toml"
    path.write_text(example)
    assert read_file(path)["tau"] == 0.02


def test_the_example_of_a_table_is_taken(tmp_path: Path) -> None:
    (example,) = blocks(README, "csv")
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
    table = rows("Networks")
    for row, measured in zip(table, (model.card.map, model.card.map_unseen), strict=True):
        assert row[1:] == [f"{measured[str(bits)]:.3f}" for bits in (16, 24, 32, 48)]


@cache
def picture(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(ROOT / "docs" / "images" / name) as photo:
        return np.array(photo.convert("RGB"))


def test_the_numbers_under_the_picture_are_those_of_the_pictures() -> None:
    before, after = picture("original.jpg"), picture("protected.jpg")
    (model,) = open_models(["lite0-caltech101:48"])
    bits = [
        bits_of(model.model(pillow_view(pixels, model.card.input)[None]).code[0].numpy()) for pixels in (before, after)
    ]
    shown = dict(rows("Before and after", 1))
    assert shown["bits that differ from the photo's own"] == f"{np.count_nonzero(bits[0] != bits[1])} of 48"
    assert shown["PSNR"] == f"{psnr_db(after, before):.1f} dB"
    assert shown["SSIM"] == f"{ssim(after, before):.3f}"
    assert shown["largest change of the decoded JPEG"] == str(linf_levels(after, before))


def test_pictures_are_small_and_the_original_is_the_fixture() -> None:
    images = ROOT / "docs" / "images"
    assert sum(path.stat().st_size for path in images.iterdir()) < 300_000
    assert (images / "original.jpg").read_bytes() == (ROOT / "tests" / "data" / "kangaroo.jpg").read_bytes()


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
