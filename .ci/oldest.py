"""Print the oldest releases that the given pyproject.toml accepts, as pip reads them: `NAME==VERSION`, one a line.

Those of the package itself are exact. What the tests need beside it (pytest and its plugins) is as the extra dev says.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TESTS = (
    *("pytest", "pytest-xdist", "hypothesis", "hatchling", "scikit-image", "scikit-learn"),
    *("pillow-heif", "onnx", "onnxruntime", "pdqhash", "watchfiles", "matplotlib"),
)


def oldest(text: str) -> list[str]:
    """One line per dependency; raises ValueError for one without a lower bound."""
    (block,) = re.findall(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    (dev,) = re.findall(r"^dev = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    lines = []
    for requirement in re.findall(r'^  "([^"]+)"', block, re.MULTILINE):
        name, bound, rest = re.fullmatch(r"([\w.-]+)>=([\w.]+)(;.*| *;.*)?", requirement).groups()  # type: ignore[union-attr]
        lines.append(f"{name}=={bound}{rest or ''}")
    return lines + [line for line in re.findall(r'^  "([^"]+)"', dev, re.MULTILINE) if line.split(">=")[0] in TESTS]


if __name__ == "__main__":
    print("\n".join(oldest(Path(sys.argv[1]).read_text(encoding="utf-8"))))
