"""A look at the words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["empty_word"]


def empty_word(words: Sequence[str]) -> str | None:
    """Return why a command line cannot be meant as it stands, for an empty word in it; None where there is none.

    An empty path would be taken for the current folder, and `protect "$UNSET"` would change what lies there.
    """
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if word.startswith("--") and len(option) > 2 and equals and not value:
            return f"{option} is empty; name what is meant, or leave the option out"
        if word == "":
            before = words[index - 1] if index else ""
            if before.startswith("-") and before not in ("-", "--"):
                return f"the word after {before} is empty; name what is meant"
            return "an argument is empty; name a file or folder, and write . for the current one"
    return None
