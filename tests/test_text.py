from __future__ import annotations

import pytest

from hashshield.text import did_you_mean, parse_toml


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("tua", ("tau", "steps"), "did you mean tau?"),
        ("TUA", ("tau", "steps"), "did you mean tau?"),
        ("BATCH-SIZ", ("batch_size", "tau"), "did you mean batch_size?"),
        ("Sunflwer", ("Sunflower", "sunflower"), "did you mean Sunflower?"),
        ("qqq", ("tau", "steps"), ""),
        ("tau", (), ""),
    ],
)
def test_the_closest_known_name_is_proposed(word: str, known: tuple[str, ...], hint: str) -> None:
    assert did_you_mean(word, known) == hint


def test_a_proposal_in_quotes_and_a_stricter_one() -> None:
    assert did_you_mean("tua", ("tau",), quoted=True) == "did you mean 'tau'?"
    assert did_you_mean("tua", ("tau",), cutoff=0.9) == ""


def test_toml() -> None:
    assert parse_toml('a = 1\n[b]\nc = ["d"]\n') == {"a": 1, "b": {"c": ["d"]}}
    with pytest.raises(ValueError, match="line 2"):
        parse_toml("a = 1\nb = =\n")
