"""Make the README's picture with the tool itself: `python docs/images/make.py`, with hashshield installed.

Protects a copy of a fixture, in a vault that is thrown away, and writes the original, the protected photo and their
difference (16 times, grey is no change) beside this file. Prints the receipt the README quotes.
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
    """Write the three pictures and print what was measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / PHOTO.name
        shutil.copyfile(PHOTO, photo)
        row = protect(photo, folder)
        before, after = pixels(PHOTO), pixels(photo)
    difference = 128 + GAIN * (after - before)
    for label, picture in (("original", before), ("protected", after), ("difference", difference)):
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(HERE / f"{label}.png", optimize=True)
    for key in ("model", "goal", "tau", "status", "distance_from_original", "distance_to_goal", "bits", "psnr_db"):
        print(f"{key}: {row[key]}")
    for key in ("ssim", "linf_levels", "linf_levels_written", "steps"):
        print(f"{key}: {row[key]}")
    print(f"survival: {json.dumps(row['survival'])}")


if __name__ == "__main__":
    main()
