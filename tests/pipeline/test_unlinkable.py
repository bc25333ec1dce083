from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashshield import imaging
from hashshield.checkpoints.catalog import DEFAULT_MODEL
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import displayed_rgb
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Source, work
from hashshield.storage import digest
from hashshield.transforms import pillow_view
from hashshield.types import Request
from tiny_net import encoded


@pytest.fixture(scope="module")
def burst(data: Path) -> list[bytes]:
    """Two frames of a burst: the second moved by two pixels and a little brighter."""
    with Image.open(data / "lotus.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    moved = np.clip(pixels[2:, 2:].astype(np.int16) + 2, 0, 255).astype(np.uint8)
    return [encoded(pixels), encoded(moved)]


def protected_bits(files: list[bytes], secret: bytes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Bits of the written files, hashed again from their bytes, and the photos' own bits."""
    tools = make_context(Request(models=(DEFAULT_MODEL,), device="cpu"), secret)
    model = tools.models[0]
    found: dict[object, tuple[np.ndarray, np.ndarray]] = {}
    for result in work([Source(str(i), f, digest(f), i) for i, f in enumerate(files)], tools):
        assert result.receipt is not None
        assert result.receipt.passed
        assert result.data is not None
        shown = displayed_rgb(imaging.read(result.data, name="written"))
        code = model.model(pillow_view(shown, model.card.input)[None]).code[0].detach().numpy()
        found[result.source.key] = bits_of(code), result.targets[0].original_bits
    return [found[i][0] for i in range(len(files))], [found[i][1] for i in range(len(files))]


@pytest.mark.long
def test_frames_of_a_burst_end_far_apart_and_so_do_two_installations(burst: list[bytes]) -> None:
    ours, own = protected_bits(burst, b"one installation")
    theirs, _ = protected_bits(burst[:1], b"another installation")
    length = len(own[0])
    assert np.count_nonzero(own[0] != own[1]) <= 0.1 * length, "unprotected, the frames look alike"
    assert np.count_nonzero(ours[0] != ours[1]) >= 0.35 * length
    assert np.count_nonzero(ours[0] != theirs[0]) >= 0.25 * length
