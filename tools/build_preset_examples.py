"""Make the example pictures of `hashshield ui`, one per preset: `python -m tools.build_preset_examples`.

Protects a fixture with each preset and writes the same 200 by 200 pixels of it, before and after, side by side, to
src/hashshield/ui/NAME.webp. The pixels are those that the presets together change most.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from hashshield import api
from hashshield.config import SETTINGS

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "tests" / "data" / "kangaroo.jpg"
PLACE = ROOT / "src" / "hashshield" / "ui"
SIDE = 200
SEED = 0
"""Makes the pictures reproducible; without a seed every installation draws other codes."""


def main() -> None:
    """Write the pictures and print what was measured. Raises PhotoError if a preset falls short."""
    before = np.asarray(Image.open(PHOTO).convert("RGB")).astype(np.int16)
    after = {}
    with tempfile.TemporaryDirectory() as vault:
        for name in SETTINGS["preset"].choices:
            done = api.protect(PHOTO, preset=name, seed=SEED, vault=Path(vault))
            after[name] = np.asarray(done.image.convert("RGB")).astype(np.int16)
            print(f"{name}: PSNR {done.outcome.psnr_db:.1f} dB, {done.outcome.steps} steps")
    change = sum(np.abs(pixels - before).sum(axis=2) for pixels in after.values())
    total = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[SIDE:, SIDE:] - total[:-SIDE, SIDE:] - total[SIDE:, :-SIDE] + total[:-SIDE, :-SIDE]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    part = np.s_[top : top + SIDE, left : left + SIDE]
    for name, pixels in after.items():
        both = np.concatenate([before[part], pixels[part]], axis=1).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(both).save(out, "WEBP", quality=92, method=6)
        (PLACE / f"{name}.webp").write_bytes(out.getvalue())
        print(f"{name}.webp: {out.tell()} bytes")


if __name__ == "__main__":
    main()
