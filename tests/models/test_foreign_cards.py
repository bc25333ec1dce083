"""What a card says of a network from elsewhere: which answer is meant, what is made of it, and what it may serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from hashshield import imaging
from hashshield.checkpoints.card import REFUSED_WORDS, InputSpec, read_card, refusal
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.errors import CheckpointError, GoalError, UsageError
from hashshield.models.importing import import_onnx
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.evaluate import evaluate
from hashshield.pipeline.protect import protect
from hashshield.pipeline.targets import goal_for
from hashshield.pipeline.verify import verify
from hashshield.transforms import CARD as CARD_VIEW
from hashshield.transforms import SQUASH, framing, pillow_view
from hashshield.types import GoalSpec, NullProgress, Request
from onnx_nets import hash_net, model_of, written
from tiny_net import encoded, picture

SIDE = 48


def imported(folder: Path, model: onnx.ModelProto | None = None, *, more: str = "", bits: int | None = 96) -> Path:
    """Import a network whose card begins with `more`."""
    path, card = written(folder, model or hash_net(side=SIDE, batch="N"), side=SIDE, bits=bits)
    card.write_text(more + card.read_text())
    import_onnx(path, card, folder / "a.safetensors")
    return folder / "a.safetensors"


def opened(path: Path) -> OpenModel:
    (model,) = open_models([str(path)])
    return model


def tokens() -> onnx.ModelProto:
    """Two answers, of which one is (N, 16, 128) tokens, and a second input that only the other one needs."""
    draw = np.random.default_rng(0)
    constants = {
        "w": (draw.normal(size=(128, 3, 12, 12)) / 8).astype(np.float32),
        "shape": np.array([0, 128, -1], np.int64),
        "v": draw.normal(size=(8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], strides=[12, 12]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["code"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["words", "v"], ["text"]),
    ]
    kinds = {"images": (TensorProto.FLOAT, ["N", 3, SIDE, SIDE]), "words": (TensorProto.FLOAT, ["N", 8])}
    model = model_of(nodes, constants, inputs=kinds, rank=3)
    model.graph.output.append(helper.make_tensor_value_info("text", TensorProto.FLOAT, ["N", 4]))
    return model


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_one_of_several_outputs_and_one_vector_of_its_tokens(pooling: str, tmp_path: Path) -> None:
    path = imported(tmp_path, tokens(), more=f'output = "code"\npooling = "{pooling}"\n')
    images = np.random.default_rng(1).random((2, 3, SIDE, SIDE), dtype=np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    answer = session.run(["code"], {"images": images * 2 - 1, "words": np.zeros((2, 8), np.float32)})[0]
    assert answer.shape == (2, 16, 128)
    expected = answer[:, 0] if pooling == "first" else answer.mean(1)
    with torch.inference_mode():
        found = opened(path).model(torch.from_numpy(images)).features.numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            "",
            r"2 inputs and 2 outputs; .*name the one to use as `output` in the card.*images, words, code, text",
        ),
        ('output = "logits"\n', "has no output 'logits'; the card may name one of code, text"),
        ('output = "text"\n', r"reads \['\?', 8\] of type 1; the card says float32"),
    ],
)
def test_an_output_that_is_not_there(more: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=says):
        imported(tmp_path, tokens(), more=more)


def test_a_projection_of_features_less_their_mean(tmp_path: Path) -> None:
    mean = np.random.default_rng(3).normal(size=128).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    path = imported(tmp_path, more='projection_mean = "mean.npy"\n')
    matrix = np.load(tmp_path / "projection.npy")
    with torch.inference_mode():
        codes = opened(path).model(torch.rand(2, 3, SIDE, SIDE))
    expected = (codes.features.numpy() - mean) @ matrix.T
    assert np.abs(codes.code.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    mean.tofile(tmp_path / "raw.bin")
    again = imported(tmp_path, more='projection_mean = "raw.bin"\n')
    weights = read_checkpoint(again).weights["heads.96.bias"]
    assert torch.allclose(weights, torch.from_numpy(-matrix @ mean), atol=1e-3)
    np.save(tmp_path / "mean.npy", mean[:64])
    with pytest.raises(CheckpointError, match=r"mean\.npy: holds float32 of shape \(64,\); .* shape \(128,\)"):
        imported(tmp_path, more='projection_mean = "mean.npy"\n')


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('pooling = "last"\n', "pooling is 'last'; leave it out, or say first or mean"),
        ("cosine = 2.0\n", "cosine is 2.0; it is a threshold between -1 and 1"),
        ('cosine = "much"\n', "cosine is 'much'"),
        ("output = 3\n", "output must be a string"),
        ('purpose = "fun"\n', "its purpose is 'fun'; leave it out, or say 'research'"),
        ('purpose = "provenance"\n', "its purpose says 'provenance'"),
    ],
)
def test_entries_that_cannot_be_meant_so(more: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        imported(tmp_path, more=more)
    assert "\n" not in str(caught.value)


def test_a_mean_without_a_projection(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="projection_mean goes with a projection"):
        imported(tmp_path, more='projection_mean = "mean.npy"\n', bits=None)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("name", "trust-and-safety"),
        ("name", "csam-matcher"),
        ("attribution", "The  Provenance\\nInitiative"),
        ("attribution", "made for child protection"),
        ("attribution", "Content\\tCredentials of a camera"),
        ("attribution", "PhotoDNA, exported"),
    ],
)
def test_networks_for_provenance_or_safety_are_refused(entry: str, text: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, hash_net(side=SIDE), side=SIDE, **{entry: f'"{text}"'})
    with pytest.raises(UsageError, match=f"its {entry} says .*: networks that tell where pictures come from") as caught:
        import_onnx(path, card, tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.safetensors").exists()


def test_every_word_is_found_alone_and_inside_no_other() -> None:
    for word in REFUSED_WORDS:
        assert refusal("net", f"for {word.upper()}, by us", "") is not None
        assert refusal("net", f"for x{word}x, by us", "") is None
    assert refusal("photos-b16", "made for tests", "") is None
    assert refusal("photos-b16", "made for tests", "research") is None


def test_the_page_lists_the_words() -> None:
    page = (Path(__file__).parents[2] / "docs" / "importing.md").read_text(encoding="utf-8")
    listed = page.partition("has one of these words:\n\n")[2].partition(".\n")[0]
    assert tuple(" ".join(listed.split()).split(", ")) == REFUSED_WORDS


def test_a_stored_card_is_held_to_the_same(tmp_path: Path) -> None:
    """A file that was written by other means says it too."""
    checkpoint = read_checkpoint(imported(tmp_path))
    card = replace(checkpoint.card, attribution="a safety classifier")
    write_checkpoint(tmp_path / "b.safetensors", card, checkpoint.weights, {}, exact=True)
    with pytest.raises(CheckpointError, match=r"b\.safetensors: its attribution says 'safety'"):
        open_models([str(tmp_path / "b.safetensors")])


@pytest.mark.parametrize("kind", ["opposite", "decoy", "center", "image", "set", "class"])
def test_a_network_from_elsewhere_serves_away_only(kind: Any, tmp_path: Path) -> None:
    model = opened(imported(tmp_path))
    assert goal_for(GoalSpec("away"), [model]).is_band
    with pytest.raises(GoalError, match=f'serves --goal away only, not {kind}; .*purpose = "research"') as caught:
        goal_for(GoalSpec(kind, str(tmp_path)), [model])
    assert "\n" not in str(caught.value)


def test_research_is_repeated_in_the_receipt(tmp_path: Path) -> None:
    """With its features compared by their cosine, too: below the threshold in the written file, by onnxruntime."""
    network, card_file = written(tmp_path, hash_net(side=160), side=160, bits=None)
    card_file.write_text('purpose = "research"\ncosine = 0.6\n' + card_file.read_text())
    path = tmp_path / "a.safetensors"
    import_onnx(network, card_file, path)
    card = read_card(path)
    assert (card.purpose, card.cosine, card.bits) == ("research", 0.6, (64,))
    photo = tmp_path / "photo.png"
    before = picture(200, 240, seed=5)
    photo.write_bytes(encoded(before))
    request = Request(models=(str(path),), vault=tmp_path / "vault", device="cpu", seed=1, witness="none")
    request = replace(request, preset="invisible", steps=100, max_visible="obvious")
    (row,) = protect([photo], request, progress=NullProgress())
    assert row.status == "protected", row.reason
    assert {code.purpose for code in row.codes} == {"research"}
    assert all(code.cosine is not None and code.cosine < code.cosine_threshold == 0.6 for code in row.codes)
    size = card.input
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    after = imaging.read(photo.read_bytes(), name="photo").pixels
    one, other = (
        session.run(None, {"images": pillow_view(pixels, size).numpy()[None] * 2 - 1})[0][0]
        for pixels in (before, after)
    )
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert abs(cosine - row.codes[0].cosine) < 2e-3
    (checked,) = verify([photo], models=[], vault=tmp_path / "vault", device="cpu", progress=NullProgress())
    assert checked.status == "protected"
    assert checked.codes[0].purpose == "research"
    assert checked.codes[0].cosine is None, "the ledger keeps codes, and no features"
    (tmp_path / "original.png").write_bytes(encoded(before))
    (pair,) = evaluate(tmp_path / "original.png", photo, models=[str(path)], device="cpu", progress=NullProgress())
    assert pair.codes[0].purpose == "research"
    assert goal_for(GoalSpec("opposite"), [opened(path)]) is not None


def test_a_card_that_squashes(tmp_path: Path) -> None:
    path = imported(tmp_path)
    text = (tmp_path / "card.toml").read_text().replace("[input]", "[input]\nsquash = true")
    (tmp_path / "card.toml").write_text(text)
    import_onnx(tmp_path / "model.onnx", tmp_path / "card.toml", tmp_path / "b.safetensors")
    crops, squashes = read_card(path).input, read_card(tmp_path / "b.safetensors").input
    assert (crops.squash, squashes.squash) == (False, True)
    assert (
        framing(CARD_VIEW, squashes, 100, 300)
        == framing(SQUASH, crops, 100, 300)
        != framing(CARD_VIEW, crops, 100, 300)
    )
    pixels = picture(60, 90, seed=2)
    model = opened(tmp_path / "b.safetensors")
    assert np.array_equal(model.hash(pixels).code, opened(path).hash(pixels, SQUASH).code)
    wrong = InputSpec(48, 48, "bilinear", (0.5,) * 3, (0.5,) * 3, squash="yes")  # type: ignore[arg-type]
    assert "neither true nor false" in str(wrong.fault())
