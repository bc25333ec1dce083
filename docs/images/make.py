"""Make the README's picture with the tool itself: `python docs/images/make.py`, with hashshield installed.

Protects a copy of a fixture, with a vault that is thrown away. Beside this file it leaves the photo as it was, the file
the tool wrote, and their difference (16 times, grey is no change), and it prints the receipt the README quotes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "tests" / "data" / "kangaroo.jpg"
SEED = "0"
"""So that the picture can be made again; without --seed every installation draws other codes."""
GAIN = 16
QUOTED = (
    *("model", "goal", "tau", "status", "bits", "distance_from_original", "distance_to_goal", "psnr_db", "ssim"),
    *("linf_levels", "linf_levels_written", "steps", "survival"),
)


def protect(photo: Path, folder: Path) -> dict[str, object]:
    """Run the command on a photo, in place, and return its row. Raises CalledProcessError when it is not protected."""
    command = [sys.executable, "-m", "hashshield", "protect", str(photo), "--seed", SEED, "--json", "--quiet"]
    environment = {**os.environ, "HASHSHIELD_VAULT": str(folder / "vault")}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    (row,) = json.loads(ended.stdout)["results"]
    assert isinstance(row, dict)
    return row


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3) values of a photo, 0 to 255."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB")).astype(np.int16)


def main() -> None:
    """Write the pictures and print what was measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / PHOTO.name
        shutil.copyfile(PHOTO, photo)
        row = protect(photo, folder)
        shutil.copyfile(PHOTO, HERE / "original.jpg")
        shutil.copyfile(photo, HERE / "protected.jpg")
    difference = 128 + GAIN * (pixels(HERE / "protected.jpg") - pixels(HERE / "original.jpg"))
    Image.fromarray(difference.clip(0, 255).astype(np.uint8)).save(HERE / "difference.png", optimize=True)
    for key in QUOTED:
        print(f"{key}: {row[key]}")


if __name__ == "__main__":
    main()
