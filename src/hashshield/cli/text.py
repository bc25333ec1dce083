"""Text from outside as rich may print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashshield.text import clean

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["clean", "literal"]


def literal(text: str, style: str = "") -> Text:
    """Cleaned text for rich, never read as markup, link or emoji code."""
    from rich.text import Text

    return Text(clean(text), style=style)
