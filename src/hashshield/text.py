"""Text from outside the program: escape it for display, find the closest known word, parse it as TOML."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["clean", "did_you_mean", "parse_toml", "read_toml"]

_LARGEST_TOML = 1 << 20
_DEEPEST_TOML = 32
_MOST_DOTS = 64
"""Most dots in a TOML key; the parser's time grows with the square of a key's parts."""

# C0, DEL and C1 (with ESC and CSI); line and paragraph separators; every character that reorders text or is an
# invisible annotation; and lone surrogates, which is how Python holds bytes of a name that are not UTF-8.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def clean(text: str) -> str:
    r"""Replace characters that could control a terminal or reorder text with visible escapes (`\x1b`, `\u202e`).

    The result is one line: line breaks are escaped too.
    """
    return re.sub(_UNSAFE, _escape, text)


def did_you_mean(word: str, known: Sequence[str], *, cutoff: float = 0.5, quoted: bool = False) -> str:
    """Return `did you mean NAME?` for the known name closest to `word`, or "" if none is close.

    The word is tried as it is, then in lower case, then in lower case with underscores for hyphens. `cutoff` is the
    least similarity, 0 to 1, as `difflib` measures it. With `quoted` the name is in quotes.
    """
    import difflib

    for spelling in dict.fromkeys((word, word.lower(), word.lower().replace("-", "_"))):
        if close := difflib.get_close_matches(spelling, known, n=1, cutoff=cutoff):
            return f"did you mean {close[0]!r}?" if quoted else f"did you mean {close[0]}?"
    return ""


def parse_toml(text: str) -> dict[str, Any]:
    """Return the top-level table of a TOML document. Raises ValueError naming the faulty line."""
    # Imported here, because it would take a tenth of the time of `--help`, which reads no TOML.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    document: dict[str, Any] = tomllib.loads(text)
    return document


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def read_toml(path: Path, *, largest: int = _LARGEST_TOML) -> dict[str, Any]:
    """Return the top-level table of a TOML file of at most `largest` bytes.

    Raises OSError, and ValueError if the file is not TOML, too large, or nested too deeply.
    """
    with path.open("rb") as handle:
        data = handle.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"larger than {largest // 1024} KiB")
    if any(part.count(b".") > _MOST_DOTS for part in re.split(rb"[=,{\n]", data)):
        raise ValueError("nested too deeply")
    try:
        raw = parse_toml(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level: list[Any] = [raw]
    for _ in range(_DEEPEST_TOML):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, (dict, list))]
    if level:
        raise ValueError("nested too deeply")
    return raw
