"""Judges of visibility that HashShield does not need: butteraugli of libjxl, and SSIMULACRA2. Each may be missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from hashshield.arrays import Pixels

__all__ = ["BUTTERAUGLI", "butteraugli_norm", "has_butteraugli", "has_ssimulacra2", "ssimulacra2_score"]

BUTTERAUGLI = "butteraugli_main"
"""The program of libjxl; Debian has it in libjxl-devtools."""
_PACKAGE = "ssimulacra2"
_PROGRAM = "ssimulacra2"


def has_butteraugli() -> bool:
    """Whether butteraugli can be asked."""
    return shutil.which(BUTTERAUGLI) is not None


def has_ssimulacra2() -> bool:
    """Whether SSIMULACRA2 can be asked, as a package of Python or as a program."""
    return find_spec(_PACKAGE) is not None or shutil.which(_PROGRAM) is not None


def butteraugli_norm(before: Pixels, after: Pixels) -> float:
    """Return butteraugli's 3-norm of two (H, W, 3) pictures, at 80 nits. Raise ValueError if it says no number."""
    with tempfile.TemporaryDirectory() as folder:
        said = _asked([BUTTERAUGLI, *_written(Path(folder), before, after), "--pnorm", "3"])
    return _number(r"^3-norm: ([0-9.]+)$", said)


def ssimulacra2_score(before: Pixels, after: Pixels) -> float:
    """Return SSIMULACRA2 of two (H, W, 3) pictures, 100 for equal ones. Raise ValueError if it says no number."""
    with tempfile.TemporaryDirectory() as folder:
        names = _written(Path(folder), before, after)
        if find_spec(_PACKAGE) is not None:
            return float(import_module(_PACKAGE).compute_ssimulacra2(*names))
        return _number(r"(-?[0-9.]+)\s*$", _asked([_PROGRAM, *names]))


def _written(folder: Path, *pictures: Pixels) -> list[str]:
    names = []
    for number, pixels in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
        names.append(str(path))
    return names


def _asked(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _number(pattern: str, said: str) -> float:
    found = re.search(pattern, said, re.MULTILINE)
    if found is None:
        raise ValueError(f"no number in what the judge said: {said[:200]!r}")
    return float(found[1])
