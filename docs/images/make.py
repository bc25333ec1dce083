"""Make the README's pictures with the tool itself: `python docs/images/make.py`, with hashshield installed.

Protects copies, with a vault that is thrown away. Beside this file it leaves each photo as it was, the file the tool
wrote, and out of the page of `--report` their difference; and it prints the receipts that `docs/faq.md` quotes.
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
DATA = HERE.parents[1] / "tests" / "data"
PHOTOS = {
    "": (DATA / "kangaroo.jpg", "original.jpg"),
    "portrait-": (HERE / "portrait.jpg", "portrait.jpg"),
    "shows-": (HERE / "shows.jpg", "shows.jpg"),
}
"""By what the names of the pictures begin with: the photo, and the name of its copy here."""
SEED = "0"
"""So that the pictures can be made again; without --seed every installation draws other codes."""
DIFFERENCE = re.compile(r'<img class="change" src="data:image/webp;base64,([^"]+)"')


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


def receipt(row: dict[str, object]) -> list[str]:
    """The cells of the table in `docs/faq.md`."""
    survival = row["survival"]
    assert isinstance(survival, list)
    after = min(kept["distance_from_original"] for kept in survival if kept["transform"] == "jpeg q75")
    return [
        f"{row['distance_from_original']} of {row['bits']}",
        f"{after} of {row['bits']}",
        f"{row['psnr_db']:.1f} dB",
        f"{row['ssim']:.3f}",
        str(row["linf_levels"]),
        str(row["linf_levels_written"]),
    ]


def main() -> None:
    """Write the pictures and print what was measured."""
    print("| photo | bits changed | after JPEG q75 | PSNR | SSIM | largest change meant | as decoded |")
    print("|---|---|---|---|---|---|---|")
    for begin, (source, before) in PHOTOS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            photo = folder / "photo.jpg"
            shutil.copyfile(source, photo)
            row = protect(photo, folder)
            if source.parent != HERE:
                shutil.copyfile(source, HERE / before)
            shutil.copyfile(photo, HERE / f"{begin}protected.jpg")
            page = (folder / "report.html").read_text(encoding="utf-8")
            (HERE / f"{begin}difference.webp").write_bytes(difference(page))
        print(f"| `{begin}protected.jpg` | {' | '.join(receipt(row))} |", flush=True)


if __name__ == "__main__":
    main()
