"""Modules that somebody put beside the photos, and that must never run; as a module because tests share it."""

from __future__ import annotations

from pathlib import Path

OURS = (
    "filelock",
    "numpy",
    "PIL",
    "piexif",
    "platformdirs",
    "rich",
    "safetensors",
    "torch",
    "torchvision",
    "typer",
    "tomli",
)
RAYS = (
    "aiohttp",
    "colorama",
    "google",
    "grpc",
    "msgpack",
    "pandas",
    "psutil",
    "pyarrow",
    "ray",
    "setproctitle",
    "yaml",
)
STANDARD = ("ast", "base64", "csv", "difflib", "fractions", "hashlib", "hmac", "json", "multiprocessing", "pickle")
STANDARD += ("secrets", "sqlite3", "subprocess", "tempfile", "tomllib", "typing", "urllib", "uuid", "xml", "zipfile")
CUSTOM = ("sitecustomize", "usercustomize")

_PLANTED = """
import os, sys
with open({marker!r}, "a") as out:
    out.write(f"{{__name__}} in {{os.getpid()}}: {{sys.argv}}\\n")
raise ImportError("planted")
"""


def plant(folder: Path, *names: str) -> Path:
    """Put modules of these names into a folder; return the file that tells which of them ran."""
    marker = folder.parent / "ran.txt"
    for name in names:
        (folder / f"{name}.py").write_text(_PLANTED.format(marker=str(marker)), encoding="utf-8")
    return marker


def ran(marker: Path) -> str:
    """Tell which planted modules ran."""
    return marker.read_text(encoding="utf-8") if marker.exists() else ""
