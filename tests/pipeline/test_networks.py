"""A network that is never searched on, asked about the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.checkpoints.file import write_checkpoint
from hashshield.config import SETTINGS, resolve
from hashshield.errors import UnknownNameError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.importing import import_model
from hashshield.models.load import open_models
from hashshield.pipeline.networks import installed_models, models_to_search, witness_name
from hashshield.transforms import pillow_view
from hashshield.types import Outcome, Request
from tiny_net import CARD, encoded, picture, tiny_weights

Protect = Callable[..., list[Outcome]]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another network than `tiny`."""
    path = tmp_path / "other.safetensors"
    weights, anchors = tiny_weights(seed=9)
    alike = {k: torch.ones_like(anchor) for k, anchor in anchors.items()}
    write_checkpoint(path, replace(CARD, name="other"), weights, alike)
    return path


def test_it_is_asked_and_never_decides(tiny: Path, other: Path, tmp_path: Path, protect_now: Protect) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    path = folder / "a.png"
    path.write_bytes(encoded(picture(48, 60, seed=3)))
    before = np.asarray(Image.open(path))
    alone, asked = (
        protect_now(path, output=tmp_path / name, tau=0.1, vault=tmp_path / f"v{name}", witness=witness)[0]
        for name, witness in (("one", "none"), ("two", f"{other}:24"))
    )
    assert alone.witness == ()
    assert (alone.status, alone.sha256_after) == (asked.status, asked.sha256_after)
    (row,) = asked.witness
    (network,) = open_models([f"{other}:24"])
    after = np.asarray(Image.open(tmp_path / "two" / "a.png"))
    with torch.inference_mode():
        images = torch.stack([pillow_view(pixels, network.card.input) for pixels in (before, after)])
        own, now = (bits_of(code.numpy()) for code in network.model(images).code)
    assert row.distance_from_original == int(np.count_nonzero(own != now))
    assert row.unlinked == (row.distance_from_original >= 11)
    assert (row.model, row.bits, row.view) == (f"{other}:24", 24, "card")
    assert row.class_rank == 0, "all its anchors are one"


def test_which_one(tiny: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path))  # whoever runs this may have downloaded some
    assert witness_name(Request()) is None, "the only one here is searched on"
    assert witness_name(Request(models=(str(tiny),))) == "lite0-caltech101:48"
    assert witness_name(Request(models=(str(tiny),), witness="none")) is None
    assert witness_name(Request(witness=f"{other}:16")) == f"{other}:16"
    with pytest.raises(UsageError, match="is searched on"):
        witness_name(Request(witness="lite0-caltech101:16"))
    with pytest.raises(UnknownNameError, match="lite2-caltech101"):
        witness_name(Request(witness="lite2-caltech"))


def test_a_network_for_thumbnails_is_no_witness_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    large = replace(CARD.input, resize=72, crop=64)
    for name, size in (("small", CARD.input), ("wide", large)):
        weights, anchors = tiny_weights(seed=9)
        write_checkpoint(tmp_path / f"{name}.safetensors", replace(CARD, name=name, input=size), weights, anchors)
        import_model(tmp_path / f"{name}.safetensors")
    assert [entry.name for entry in installed_models()] == ["lite0-caltech101", "wide"]
    assert witness_name(Request()) == "wide:24"


def test_the_strong_preset_is_searched_on_every_network_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    weights, anchors = tiny_weights(seed=9)
    path = tmp_path / "wide.safetensors"
    write_checkpoint(path, replace(CARD, name="wide", input=replace(CARD.input, resize=104, crop=96)), weights, anchors)
    import_model(path)
    write_checkpoint(
        tmp_path / "less.safetensors",
        replace(CARD, name="less", input=replace(CARD.input, resize=72, crop=64)),
        weights,
        anchors,
    )
    import_model(tmp_path / "less.safetensors")
    own = ("lite0-caltech101:48",)
    assert models_to_search(resolve({**dict.fromkeys(SETTINGS)})) == own
    assert models_to_search(resolve({**dict.fromkeys(SETTINGS), "preset": "strong"})) == (*own, "wide")
    named = {**dict.fromkeys(SETTINGS), "preset": "strong", "model": ["lite0-caltech101:16"]}
    assert models_to_search(resolve(named)) == ("lite0-caltech101:16",), "what is named is all"
    assert models_to_search(resolve({**dict.fromkeys(SETTINGS), "preset": "strong", "witness": "wide:16"})) == own
