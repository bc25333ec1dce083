"""Make ADR 006's picture: `python docs/images/masking.py`, with hashshield installed.

A part of a fixture as it is, protected by `balanced` without weights for where a change is seen, and with them, at
100 %. The weights are not an option of the command; only this script leaves them out.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Source, work
from hashshield.storage import digest
from hashshield.types import Request

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "tests" / "data" / "sunflower.jpg"
GAP = 4
PART = (0, 20, 150, 160)
"""What is shown: left, top, right, bottom."""


def protected(*, masked: bool) -> Image.Image:
    """The photo under `balanced`; prints its PSNR."""
    tools = make_context(Request(preset="balanced", seed=0, device="cpu", witness="none"), b"")
    data = PHOTO.read_bytes()
    (result,) = work(
        [Source(PHOTO.name, data, digest(data))], replace(tools, preset=replace(tools.preset, masked=masked))
    )
    assert result.data is not None
    assert result.receipt is not None
    print(f"{'with' if masked else 'without'} weights: {result.receipt.psnr_db:.1f} dB, SSIM {result.receipt.ssim:.3f}")
    return Image.open(BytesIO(result.data)).convert("RGB")


def main() -> None:
    """Write the picture."""
    photos = [Image.open(PHOTO).convert("RGB"), protected(masked=False), protected(masked=True)]
    photos = [photo.crop(PART) for photo in photos]
    sheet = Image.new("RGB", (sum(photo.width + GAP for photo in photos) - GAP, photos[0].height), "white")
    for index, photo in enumerate(photos):
        sheet.paste(photo, (index * (photo.width + GAP), 0))
    sheet.save(HERE / "masking.webp", quality=95, method=6)


if __name__ == "__main__":
    main()
