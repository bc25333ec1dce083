"""Text from outside (file names, metadata, messages that quote them) made harmless to show."""

from __future__ import annotations

import re

__all__ = ["clean"]

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
