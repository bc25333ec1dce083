"""What a photo takes grows with its pixels, whatever its aspect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_net import picture

_ALLOWED_MB = 300


def peak_mb(folder: Path, width: int, height: int) -> float:
    """Largest resident memory of `hashshield protect` on a JPEG of that size, with the embedded network."""
    folder.mkdir()
    Image.fromarray(picture(height, width)).save(folder / "a.jpg", quality=90)
    command = [sys.executable, "-m", "hashshield", "protect", str(folder / "a.jpg"), "--vault", str(folder / "vault")]
    options = ["--steps", "2", "--accept-best", "--survival", "--quiet", "--yes"]
    with subprocess.Popen([*command, *options], env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 3), "protected, or as far as two steps lead"
    return usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="asks the system for a process's peak")
@pytest.mark.parametrize(("width", "height"), [(20_000, 300), (40, 12_000), (60_000, 32), (720, 30_000)])
def test_a_strip_takes_no_more_than_a_square_photo(width: int, height: int, tmp_path: Path) -> None:
    side = int(np.sqrt(width * height))
    strip, square = peak_mb(tmp_path / "strip", width, height), peak_mb(tmp_path / "square", side, side)
    print(f"{width}x{height}: {strip:.0f} MB, square photo of as many pixels: {square:.0f} MB")
    assert strip < square + _ALLOWED_MB
