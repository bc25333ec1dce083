"""Text from outside: file names and metadata made harmless to show, and TOML files of a bounded size."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["clean", "read_toml"]

_LARGEST_TOML = 1 << 20
_DEEPEST_TOML = 32
_MOST_DOTS = 64
"""In a key: the time that reading one takes grows with the square of its parts."""

# C0, DEL and C1 (with ESC and CSI); line and paragraph separators; every character that reorders text or is an
# invisible annotation; and lone surrogates, which is how Python holds bytes of a name that are not UTF-8.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def clean(text: str) -> str:
    r"""Replace characters that could steer a terminal or reorder a page by a visible escape (`\x1b`, `\u202e`).

    One line comes out.
    """
    return re.sub(_UNSAFE, _escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def read_toml(path: Path, *, largest: int = _LARGEST_TOML) -> dict[str, Any]:
    """Return what a TOML file of at most `largest` bytes says.

    Raises OSError, and ValueError for what is no TOML, too large, or nested deeper than settings are.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    with path.open("rb") as handle:
        data = handle.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"larger than {largest // 1024} KiB")
    if any(part.count(b".") > _MOST_DOTS for part in re.split(rb"[=,{\n]", data)):
        raise ValueError("nested too deeply")
    try:
        raw: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level: list[Any] = [raw]
    for _ in range(_DEEPEST_TOML):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, (dict, list))]
    if level:
        raise ValueError("nested too deeply")
    return raw
