"""The page and its assets, built once; everything that changes on it comes from the session's state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2

from hashshield.config import SETTINGS, resolve
from hashshield.report import html as report
from hashshield.ui.photos import FILE_BYTES, MOST_PHOTOS

__all__ = ["ASSETS", "PRESETS", "page"]


class _PresetCard(NamedTuple):
    """Title and text of a preset on the page."""

    title: str
    text: str


PRESETS: Mapping[str, _PresetCard] = {
    "invisible": _PresetCard(
        "Invisible",
        "The least visible change. It protects the file as it is: a service that encodes the photo again may undo it.",
    ),
    "balanced": _PresetCard(
        "Balanced",
        "Prepared for what services do to photos: JPEG, smaller sizes, noise. On plain or blurred backgrounds it can "
        "be seen.",
    ),
    "strong": _PresetCard(
        "Strong",
        "Also changes what other kinds of networks see in the photo. It is more visible, as grain, and takes longest.",
    ),
}
_HERE, _REPORT = Path(__file__).parent, Path(report.__file__).parent
_SCRIPT, _STYLE, _WEBP = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/webp"
ASSETS: Mapping[str, tuple[bytes, str]] = {
    "report.css": ((_REPORT / "style.css").read_bytes(), _STYLE),
    "report.js": ((_REPORT / "script.js").read_bytes(), _SCRIPT),
    "ui.css": ((_HERE / "ui.css").read_bytes(), _STYLE),
    "ui.js": ((_HERE / "ui.js").read_bytes(), _SCRIPT),
    **{f"{name}.webp": ((_HERE / f"{name}.webp").read_bytes(), _WEBP) for name in PRESETS},
}
"""The assets of the page by name, each with its bytes and MIME type."""


@cache
def page() -> bytes:
    """Return the page in UTF-8, with the user's settings preselected. Raises UsageError for invalid settings."""
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    settings = resolve()
    text = environment.get_template("page.html").render(
        presets={name: PRESETS[name] for name in SETTINGS["preset"].choices},
        chosen=settings["preset"].value,
        strip_gps=settings["strip_gps"].value,
        strip_metadata=settings["strip_metadata"].value,
        megabytes=FILE_BYTES >> 20,
        most=MOST_PHOTOS,
    )
    return text.encode("utf-8")
