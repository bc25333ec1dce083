"""Checks of a command line before it is parsed. Imports little: `__main__` may need it before the rest is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["document_of_nothing", "empty_word", "expand_words", "pipes_photo"]

_GROUPS = ("bench", "config", "integrate", "models", "originals")


def expand_words(words: Sequence[str], *, platform: str = sys.platform) -> list[str]:
    """Return the command line with common spellings replaced by the real ones.

    `help protect` becomes `protect --help`, `version` becomes `--version`, and `config`, alone or with options, becomes
    `config show`. On Windows, whose shells leave it to programs, a leading ~ becomes the user's home folder.
    """
    if platform == "win32":
        words = [os.path.expanduser(word) for word in words]  # noqa: PTH111 - a word need not be a path
    match list(words):
        case ["help", *rest]:
            return [*rest, "--help"]
        case ["version"]:
            return ["--version"]
        case ["config", *rest] if all(word.startswith("-") for word in rest) and not {"-h", "--help"} & set(rest):
            return ["config", "show", *rest]
        case same:
            return same


def empty_word(words: Sequence[str]) -> str | None:
    """Return the error message for the first empty word of a command line, or None if no word is empty.

    An empty path would be taken for the current folder, and `protect "$UNSET"` would change the photos there.
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


def pipes_photo(words: Sequence[str]) -> bool:
    """Return whether standard output is for a photo, so that the report goes to standard error."""
    return "-" in words and "protect" in words


def document_of_nothing(
    words: Sequence[str],
    *,
    error: str = "Interrupted",
    message: str = "nothing was done; run the same command again",
    exit_code: int = 130,
) -> str | None:
    """Return the JSON document of a command that ended with this error before it began, or None without --json.

    `watch` has no document: it prints one object per line.
    """
    import json

    names = [word for word in words if not word.startswith("-")]
    if "--json" not in words or not names or names[0] == "watch":
        return None
    command = " ".join(names[: 2 if names[0] in _GROUPS else 1])
    document = {
        "version": 1,
        "command": command,
        "results": [],
        "summary": {"count": 0, "seconds": 0.0},
        "error": {"type": error, "message": message, "exit_code": exit_code},
    }
    return json.dumps(document, indent=2)
