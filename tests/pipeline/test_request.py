"""A network that is never searched on, asked about the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.checkpoints import catalog
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.config import SETTINGS, resolve
from hashshield.errors import UnknownNameError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.importing import import_model
from hashshield.models.load import open_models
from hashshield.pipeline.request import installed_models, surrogate_names, witness_row, witnesses
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
    write_checkpoint(path, replace(CARD, name="other", lineage="another"), weights, alike)
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


def written(path: Path, *, references: bool = True, seed: int = 9, **changes: Any) -> Path:
    """Write a network that sees photos, not thumbnails, with 1,000 reference codes of each length."""
    weights, anchors = tiny_weights(seed=seed)
    drawn = np.random.default_rng(seed).random((1000, 24)) < 0.5
    codes = {k: np.where(drawn[:, :k], 1, -1).astype(np.int8) for k in CARD.bits} if references else {}
    size = replace(CARD.input, resize=72, crop=64)
    card = replace(CARD, **{"name": path.stem, "input": size, "map_unseen": {"24": 0.9}, **changes})
    write_checkpoint(path, card, weights, anchors, references=codes)
    return path


def test_which_ones(tiny: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path))  # whoever runs this may have downloaded some
    alone = witnesses(Request())
    assert (alone.names, alone.none_because) == ((), "the search used every installed network")
    assert witnesses(Request(models=(str(tiny),))).names == ("lite0-caltech101:48",)
    for models in (Request().models, (str(tiny),)):
        asked = witnesses(Request(models=models, witness="none"))
        assert (asked.names, asked.none_because) == ((), None), "none was wanted"
    assert witnesses(Request(witness=f"{other}:16")).names == (f"{other}:16",)
    with pytest.raises(UsageError, match="is searched on"):
        witnesses(Request(witness="lite0-caltech101:16"))
    with pytest.raises(UnknownNameError, match="lite2-caltech101"):
        witnesses(Request(witness="lite2-caltech"))


def test_twins_weak_ones_and_those_without_references_are_no_witnesses(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    import_model(written(tmp_path / "weak.safetensors", map_unseen={"16": 0.3, "24": 0.46}))
    import_model(written(tmp_path / "bare.safetensors", references=False))
    import_model(written(tmp_path / "twin.safetensors", recipe={"model": {"start": "x/lite0-caltech101.safetensors"}}))
    found = witnesses(Request())
    assert found.names == ()
    assert found.none_because == (
        "bare carries no reference codes; twin has the trunk of lite0-caltech101, which is searched on; "
        "weak finds too little itself (MAP 0.46 among photos it never saw)"
    )
    for name, why in (("weak", "finds too little"), ("twin", "has the trunk of lite0-caltech101")):
        with pytest.raises(UsageError, match=f"--witness {name}:24: {why}"):
            witnesses(Request(witness=f"{name}:24"))
    import_model(written(tmp_path / "good.safetensors"))
    assert witnesses(Request()).names == ("good:24",)
    assert "bare:24" in witnesses(Request(witness="bare:24")).names, "asked for by name it is asked, without a verdict"
    searched = (f"{tmp_path / 'good.safetensors'}:24",)
    assert witnesses(Request(models=searched)).names == ("lite0-caltech101:48",), "the others have its architecture"


@pytest.mark.parametrize("references", [True, False])
def test_the_verdict_is_that_of_the_nearest_reference_code(references: bool, tmp_path: Path) -> None:
    before = picture(80, 90, seed=3)
    judge = written(tmp_path / "judge.safetensors", references=references)
    (network,) = open_models([f"{judge}:24"])
    with torch.inference_mode():
        own = network.hash(before).bits
    row = witness_row(own, network, pillow_view(255 - before, network.card.input), "card")
    moved = int(np.count_nonzero(network.hash(255 - before).bits != own))
    assert row.distance_from_original == moved
    if not references:
        assert (row.nearest_reference, row.finds) == (None, None)
        return
    assert network.references is not None
    assert len(network.references) == 1000
    nearest = min(int(np.count_nonzero(code != own)) for code in network.references)
    assert (row.nearest_reference, row.finds) == (nearest, moved <= nearest)
    same = witness_row(own, network, pillow_view(before, network.card.input), "card")
    assert (same.distance_from_original, same.finds) == (0, True)
    itself = replace(network, references=np.concatenate([own[None], network.references]))
    again = witness_row(own, itself, pillow_view(before, network.card.input), "card")
    assert again.nearest_reference == nearest > 0, "the photo may be one of them, which proves nothing"


def test_the_receipt_says_that_there_is_no_witness(
    tmp_path: Path, protect_now: Protect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(48, 60, seed=3)))
    fast: dict[str, Any] = {"models": ("lite0-caltech101:48",), "steps": 1, "accept_best": True, "device": "cpu"}
    (row,) = protect_now(path, output=tmp_path / "out", witness="auto", **fast)
    assert (row.witness, row.no_witness) == ((), "the search used every installed network")
    (row,) = protect_now(path, output=tmp_path / "two", witness="none", **fast)
    assert (row.witness, row.no_witness) == ((), None)


def test_a_network_for_thumbnails_is_no_witness_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    large = replace(CARD.input, resize=72, crop=64)
    for name, size in (("small", CARD.input), ("wide", large)):
        import_model(written(tmp_path / f"{name}.safetensors", input=size))
    assert [entry.name for entry in installed_models()] == ["lite0-caltech101", "wide"]
    assert witnesses(Request()).names == ("wide:24",)


def test_the_strong_preset_moves_the_features_of_the_lites_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    weights, anchors = tiny_weights(seed=9)
    path = tmp_path / "wide.safetensors"
    write_checkpoint(path, replace(CARD, name="wide", input=replace(CARD.input, resize=104, crop=96)), weights, anchors)
    import_model(path)
    lite = read_checkpoint(catalog.resolve("lite0-caltech101").path)
    path = tmp_path / "mine.safetensors"
    write_checkpoint(path, replace(lite.card, name="mine"), lite.weights, lite.anchors)
    import_model(path)
    assert "mine" in [entry.name for entry in installed_models()]

    def surrogates(**changed: object) -> tuple[str, ...]:
        return surrogate_names(resolve({**dict.fromkeys(SETTINGS), **changed}))

    assert surrogates() == (), "only presets that move features"
    assert surrogates(preset="strong") == (), "what is searched on is one already, and nobody knows what else is for"
    assert surrogates(preset="strong", model=["wide:16"]) == ("lite0-caltech101:48",)
    assert surrogates(preset="strong", model=["wide:16"], witness="lite0-caltech101:48") == ()
    assert surrogates(preset="strong", model=["wide:16"], witness="none") == ("lite0-caltech101:48",)


@pytest.mark.long
def test_balanced_moves_the_features_of_what_it_searches_on_and_of_nothing_else(
    data: Path, tiny: Path, tmp_path: Path, protect_now: Protect
) -> None:
    def protected(name: str, model: str) -> Outcome:
        photo = tmp_path / f"{name}.jpg"
        photo.write_bytes((data / "lotus.jpg").read_bytes())
        (row,) = protect_now(photo, models=(model,), preset="balanced", steps=None)
        return row

    lite = protected("lite", "lite0-caltech101:48")
    assert lite.status == "protected"
    (moved,) = lite.surrogates
    assert moved.model == "lite0-caltech101:48"
    assert moved.cosine < 0.7, "further than the code alone takes them"
    assert protected("other", f"{tiny}:16").surrogates == ()
