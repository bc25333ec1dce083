"""Make the README's pictures with the tool itself: `python docs/images/make.py`, with hashshield installed.

Protects a copy of a fixture, with a vault that is thrown away. Beside this file it leaves the photo as it was, the file
the tool wrote, and out of the page of `--report` their difference; and it prints the receipt the README quotes.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "tests" / "data" / "kangaroo.jpg"
SEED = "0"
"""So that the picture can be made again; without --seed every installation draws other codes."""
DIFFERENCE = re.compile(r'<img class="change" src="data:image/webp;base64,([^"]+)"')
QUOTED = (
    *("model", "goal", "tau", "status", "bits", "distance_from_original", "distance_to_goal", "psnr_db", "ssim"),
    *("linf_levels", "linf_levels_written", "steps", "survival"),
)


def protect(photo: Path, folder: Path) -> dict[str, object]:
    """Run the command on a photo, in place, and return its row. Raises CalledProcessError when it is not protected."""
    command = [sys.executable, "-m", "hashshield", "protect", str(photo), "--seed", SEED, "--json", "--quiet"]
    command += ["--report", str(folder / "report.html")]
    environment = {**os.environ, "HASHSHIELD_VAULT": str(folder / "vault")}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    (row,) = json.loads(ended.stdout)["results"]
    assert isinstance(row, dict)
    return row


def difference(page: str) -> bytes:
    """The WebP that the page shows of what was changed. Raises ValueError when it shows none, or several."""
    (found,) = DIFFERENCE.findall(page)
    return base64.b64decode(found)


def main() -> None:
    """Write the pictures and print what was measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / PHOTO.name
        shutil.copyfile(PHOTO, photo)
        row = protect(photo, folder)
        shutil.copyfile(PHOTO, HERE / "original.jpg")
        shutil.copyfile(photo, HERE / "protected.jpg")
        page = (folder / "report.html").read_text(encoding="utf-8")
        (HERE / "difference.webp").write_bytes(difference(page))
    for key in QUOTED:
        print(f"{key}: {row[key]}")


if __name__ == "__main__":
    main()
