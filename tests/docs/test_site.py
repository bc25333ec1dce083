"""The pages of docs/ as a site: all are in its menu, and mkdocs builds them without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\nvalidation:")[0]
    named = re.findall(r": (\S+\.md)$", menu, re.MULTILINE)
    assert sorted(named) == sorted(str(path.relative_to(DOCS).as_posix()) for path in DOCS.glob("**/*.md"))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (it comes with the extra docs)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "mkdocs.yml"]
    ended = subprocess.run([*command, "--site-dir", tmp_path / "site"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for page in DOCS.glob("**/*.md"):
        name = page.relative_to(DOCS).with_suffix("")
        html = tmp_path / "site" / (name if name.name != "index" else name.parent) / "index.html"
        assert html.is_file(), page
        text = html.read_text(encoding="utf-8")
        # A browser asks no other host for anything.
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", text), page
    assert not list((tmp_path / "site").glob("**/*.py"))
