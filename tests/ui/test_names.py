from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshield.ui.photos import attachment, distinct, safe_name


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("a.jpg", "a.jpg"),
        ("Ferien am Meer (2).JPG", "Ferien am Meer (2).JPG"),
        ("日本の写真.png", "日本の写真.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.jpg", "a.jpg"),
        ("..", "photo"),
        ("", "photo"),
        (".bashrc", "bashrc"),
        ("a.jpg.", "a.jpg"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\r\nSet-Cookie: x=1.jpg", "aSet-Cookie_ x=1.jpg"),
        ("<img src=x onerror=alert(1)>.png", "_img src=x onerror=alert(1)_.png"),
        ("con.jpg", "_con.jpg"),
        ("nul", "_nul"),
        ("-rf.jpg", "-rf.jpg"),
        ("e\u0301.jpg", "\u00e9.jpg"),
        ("a\x00b.jpg", "ab.jpg"),
    ],
)
def test_names_become_harmless_and_stay_readable(given_name: str, kept: str) -> None:
    assert safe_name(given_name) == kept


@given(st.text(max_size=400))
def test_any_name_is_one_every_system_takes(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 130
    assert not set(name) & set('/\\<>:"|?*\x00')
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert all(unicodedata.category(character)[0] != "C" for character in name)
    assert safe_name(name) == name
    header = attachment(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


def test_no_two_names_of_an_archive_are_alike() -> None:
    names = ["a.jpg", "A.JPG", "a (2).jpg", "a.jpg", "b"]
    found = distinct(names)
    assert found == ["a.jpg", "A (2).JPG", "a (2) (2).jpg", "a (3).jpg", "b"]
    assert len({name.casefold() for name in found}) == len(names)
