from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hashshield.checkpoints.card import Card, has_references, read_card
from hashshield.checkpoints.file import read_checkpoint, with_map, with_references, write_checkpoint
from hashshield.errors import CheckpointError
from tiny_net import CARD, CLASSES, tiny_weights, write_tiny


def test_what_is_written_is_read_in_float16_precision(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "new.safetensors"
    weights, anchors = tiny_weights()
    write_checkpoint(path, CARD, weights, anchors)
    found = read_checkpoint(path)
    assert found.card == read_card(path) == CARD
    assert found.weights.keys() == weights.keys()
    for key, value in weights.items():
        assert found.weights[key].dtype == value.dtype
        assert torch.equal(found.weights[key], value.half().float() if value.is_floating_point() else value)
    assert {k: v.tolist() for k, v in found.anchors.items()} == {k: v.tolist() for k, v in anchors.items()}
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing temporary is left"
    assert path.stat().st_size < 2.5 * sum(v.numel() for v in weights.values())


def test_a_second_round_trip_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    first = read_checkpoint(tiny)
    write_checkpoint(tmp_path / "again.safetensors", first.card, first.weights, first.anchors)
    assert (tmp_path / "again.safetensors").read_bytes() == tiny.read_bytes()


def test_measured_maps_are_added_without_touching_tensors(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.safetensors")
    before = read_checkpoint(path)
    with_map(path, {16: 0.51239, 24: 0.6}, {16: 0.4, 24: 0.5})
    after = read_checkpoint(path)
    assert after.card.map == {"16": 0.5124, "24": 0.6}
    assert after.card.map_unseen == {"16": 0.4, "24": 0.5}
    assert all(torch.equal(after.weights[k], v) for k, v in before.weights.items())
    assert all(torch.equal(after.anchors[k], v) for k, v in before.anchors.items())


def test_reference_codes_are_added_without_touching_the_rest(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.safetensors")
    before = read_checkpoint(path)
    assert before.references == {}
    assert not has_references(path, 16)
    drawn = np.where(np.random.default_rng(0).random((1000, 20)) < 0.5, -1, 1).astype(np.int8)
    with_references(path, {16: drawn[:, :16], 20: drawn})
    with_map(path, {16: 0.5}, {16: 0.4})
    after = read_checkpoint(path)
    assert replace(after.card, map={}, map_unseen={}) == before.card
    assert {k: v.tolist() for k, v in after.references.items()} == {16: drawn[:, :16].tolist(), 20: drawn.tolist()}
    assert [has_references(path, bits) for bits in (16, 20, 24)] == [True, True, False]
    assert after.weights.keys() == before.weights.keys()
    assert all(torch.equal(after.weights[k], v) for k, v in before.weights.items())
    assert all(torch.equal(after.anchors[k], v) for k, v in before.anchors.items())
    assert path.stat().st_size < write_tiny(tmp_path / "b.safetensors").stat().st_size + 6000


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2), torch.zeros(3, 5, dtype=torch.uint8), torch.zeros(0, 2).byte()])
def test_reference_codes_of_another_shape_are_refused(wrong: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"reference.16": wrong}, path, metadata={"card": CARD.to_json()})
    with pytest.raises(CheckpointError, match="reference codes of 16 bits are"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_what_float16_cannot_hold_is_not_written(value: float, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match=r"a\.safetensors: tensor bad does not fit float16; it was not written"):
        write_checkpoint(path, CARD, {"bad": torch.tensor([value])}, {})
    assert not path.exists()


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1.0] * 10}))


def torch_pickle(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)


def truncated(path: Path) -> None:
    data = write_tiny(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_header(path: Path) -> None:
    path.write_bytes(write_tiny(path).read_bytes()[:100])


def absurd_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}" * 100)


def header_longer_than_the_file(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 4000) + b"{" + b" " * 100)


def header_no_json(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 100) + b"\xff" * 200)


def no_card(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def nan_weights(path: Path) -> None:
    weights, _ = tiny_weights()
    tensors = {k: v.contiguous() for k, v in weights.items()}
    tensors["heads.16.weight"][0, 0] = float("nan")
    save_file(tensors, path, metadata={"card": CARD.to_json()})


def wrong_anchors(path: Path) -> None:
    weights, anchors = tiny_weights()
    write_checkpoint(path, CARD, weights, {**anchors, 16: anchors[16][:-1]})


def anchors_that_are_no_bits(path: Path) -> None:
    weights, anchors = tiny_weights()
    write_checkpoint(path, CARD, weights, {**anchors, 16: anchors[16] * 0})


def anchors_without_a_length(path: Path) -> None:
    save_file({"anchor.many": torch.zeros(3)}, path, metadata={"card": CARD.to_json()})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (pickled, "this is a pickle"),
        (torch_pickle, "this is a pickle"),
        (zipped, "this is a pickle"),
        (lambda path: path.write_bytes(b""), "0 bytes are no safetensors file"),
        (lambda path: path.write_bytes(b"\0" * 9), "9 bytes are no safetensors file"),
        (truncated, "not a readable safetensors file"),
        (cut_header, "the header claims"),
        (absurd_header, "the header claims 4611686018427387904 bytes"),
        (header_longer_than_the_file, "the header claims 4000 bytes of a file of 109"),
        (header_no_json, "not a readable safetensors file"),
        (no_card, "without a hashshield card"),
        (nan_weights, "tensor heads.16.weight holds NaN or infinite values"),
        (wrong_anchors, r"anchors of 16 bits have shape \(3, 16\), expected \(4, 16\)"),
        (anchors_that_are_no_bits, "anchors of 16 bits hold other values than -1 and 1"),
        (anchors_without_a_length, "not a readable safetensors file"),
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_bad_files_are_named_and_refused(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_header_as_long_as_a_pickles_first_bytes_is_no_pickle(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wanted = int.from_bytes(start.ljust(2, b"\x40"), "little")
    length = wanted
    for _ in range(2):
        card = replace(CARD, attribution="x" * (wanted - length))
        write_checkpoint(path, card, {"a": torch.zeros(2)}, {})
        length = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.read_bytes().startswith(start)
    assert read_checkpoint(path).card == card


def changed(**entries: Any) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **entries})


def with_input(**entries: Any) -> str:
    card = json.loads(CARD.to_json())
    return json.dumps({**card, "input": {**card["input"], **entries}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not json", "its card cannot be read"),
        ("[]", "its card cannot be read"),
        ("{}", "card format None, this release reads 1; update"),
        (changed(format_version=2), "card format 2"),
        (changed(bits=[]), "no usable code length"),
        (changed(bits=[0]), "no usable code length"),
        (changed(bits=[100_000]), "no usable code length"),
        (changed(bits=16), "`bits` of its card should be"),
        (changed(hidden="wide"), "`hidden` of its card should be"),
        (changed(hidden=-1), "hidden layer"),
        (changed(hidden=10**9), "hidden layer"),
        (changed(surprise=1), "its card cannot be read"),
        (changed(classes=None), "`classes` of its card should be"),
        (changed(classes=["cat", "dog", "cat", "teapot"]), "names a class twice"),
        (changed(name=3), "`name` of its card should be"),
        (changed(licence=None), "`licence` of its card should be"),
        (changed(map={"many": 0.5}), "`map` of its card should be"),
        (with_input(crop=300, resize=256), "is not supported"),
        (with_input(crop=4), "is not supported"),
        (with_input(resize=100_000), "is not supported"),
        (with_input(resize="large"), "its card cannot be read"),
        (with_input(interpolation="bicubic"), "is not supported"),
        (with_input(mean=[0.5, 0.5]), "its card cannot be read"),
        (with_input(mean=[0.5, 0.5, float("nan")]), "three finite numbers"),
        (with_input(std=[0.5, 0.5, 0.0]), "not positive"),
        (with_input(std=[0.5, 0.5, float("nan")]), "three finite numbers"),
    ],
)
def test_bad_cards_are_refused(text: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        Card.from_json(text, source="a.safetensors")
    assert str(caught.value).startswith("a.safetensors: ")


def test_a_card_is_read_as_it_was_written() -> None:
    assert Card.from_json(CARD.to_json(), source="x") == CARD
    assert Card.from_json(CARD.to_json(), source="x").classes == CLASSES
