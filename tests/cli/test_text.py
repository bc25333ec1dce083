from __future__ import annotations

import io
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hashshield.cli.terminal import literal
from hashshield.text import clean

HOSTILE = [
    ("\x1b[31mred\x1b[0m.jpg", r"\x1b[31mred\x1b[0m.jpg"),
    ("\x1b]8;;http://x\x07link", r"\x1b]8;;http://x\x07link"),
    ("two\nlines\r.jpg", r"two\nlines\r.jpg"),
    ("gpj.\u202eexe", r"gpj.\u202eexe"),
    ("c1\x9b2J", r"c1\x9b2J"),
    (os.fsdecode(b"\xff\xfe.jpg"), r"\xff\xfe.jpg"),
    ("plain é 漢 👍🏽 e\u0301.jpg", "plain é 漢 👍🏽 e\u0301.jpg"),
]


@pytest.mark.parametrize(("name", "shown"), HOSTILE)
def test_hostile_names_are_shown_as_escapes(name: str, shown: str) -> None:
    assert clean(name) == shown


@given(st.text(st.characters(), max_size=40))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not [
        c
        for c in cleaned
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize("name", ["[link=http://x]a[/link].jpg", "[red]a.jpg", "a[/].jpg", ":smile:.jpg", "a\\[b].jpg"])
def test_rich_prints_a_name_as_it_is(name: str) -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=80, color_system=None).print(literal(name))
    assert stream.getvalue() == f"{name}\n"
