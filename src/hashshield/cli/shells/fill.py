"""What the templates of all three shells share."""

from __future__ import annotations

__all__ = ["filled", "quoted"]

HEAD = "# Generated from the application; see hashshield.cli.shells."
MODELS = "hashshield models list --names"
CLASSES = "hashshield models info --classes"


def filled(template: str, **parts: str) -> str:
    """The template with its @WORDS@ replaced; shells use braces and dollars, so neither marks a place."""
    parts |= {"head": HEAD, "models": MODELS, "classes": CLASSES}
    for name, text in parts.items():
        template = template.replace(f"@{name.upper()}@", text)
    return template


def quoted(text: str) -> str:
    """Single quotes as bash and zsh read them."""
    return "'" + text.replace("'", "'\\''") + "'"
