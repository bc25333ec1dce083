"""Foreign networks that ask for much, or are damaged: one line each, before anything of their size is made."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.errors import CheckpointError, HashshieldError
from hashshield.models.graph import Graph, Node, last_reads, output_width
from hashshield.models.importing import import_onnx
from hashshield.models.load import open_models
from hashshield.models.onnx_file import check_wire
from onnx_nets import hash_net, model_of, written

SIDE = 16


def net(
    *nodes: onnx.NodeProto, batch: int | str = 1, constants: dict[str, np.ndarray] | None = None, side: int = SIDE
) -> onnx.ModelProto:
    """A network from `images` to `x`, whose first four values are the code."""
    last = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["code"]),
    ]
    inputs = {"images": (TensorProto.FLOAT, [batch, 3, side, side])}
    return model_of([*nodes, *last], constants or {}, inputs=inputs, rank=2)


def conv(shape: tuple[int, ...] = (4, 3, 3, 3), **attributes: Any) -> onnx.ModelProto:
    weights = {"w": np.ones(shape, np.float32)}
    return net(helper.make_node("Conv", ["images", "w"], ["x"], **attributes), constants=weights)


def pool(op: str = "MaxPool", **attributes: Any) -> onnx.ModelProto:
    return net(helper.make_node(op, ["images"], ["x"], **{"kernel_shape": [2, 2], **attributes}))


def padded(widths: list[int], **attributes: Any) -> onnx.ModelProto:
    pads = {"p": np.array(widths, np.int64)}
    return net(helper.make_node("Pad", ["images", "p"], ["x"], **attributes), constants=pads)


def outer(op: str = "Add") -> onnx.ModelProto:
    """Two long vectors that a broadcast makes a huge matrix of."""
    sides = {"a": np.ones((1, 1, 40_000, 1), np.float32), "b": np.ones((1, 1, 1, 40_000), np.float32)}
    nodes = [helper.make_node(op, ["a", "b"], ["huge"]), helper.make_node("Identity", ["images"], ["x"])]
    return net(*nodes, constants=sides)


def doubled(times: int, op: str = "Concat") -> onnx.ModelProto:
    """Each operator doubles what it gets."""
    names = ["images", *(f"d{i}" for i in range(times - 1)), "x"]
    more = {"axis": 1} if op == "Concat" else {}
    return net(*(helper.make_node(op, [a, a], [b], **more) for a, b in pairwise(names)))


def doubled_numbers() -> onnx.ModelProto:
    """Whole numbers that double, as if a size were computed from them."""
    names = [f"s{i}" for i in range(41)]
    nodes = [helper.make_node("Shape", ["images"], ["s0"])]
    nodes += [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]
    nodes += [helper.make_node("Reshape", ["images", "s40"], ["x"])]
    return net(*nodes)


def many_layers() -> onnx.ModelProto:
    """A layer of plain size, over and over."""
    weights = {"w": np.ones((512, 3, 1, 1), np.float32), "v": np.ones((512, 512, 3, 3), np.float32)}
    names = ["first", *(f"c{i}" for i in range(400)), "x"]
    nodes = [helper.make_node("Conv", ["images", "w"], ["first"])]
    nodes += [helper.make_node("Conv", [a, "v"], [b], pads=[1, 1, 1, 1]) for a, b in pairwise(names)]
    return net(*nodes, constants=weights)


def kept_alive() -> onnx.ModelProto:
    """Results that all wait for the last operator."""
    weights = {"w": np.ones((512, 3, 1, 1), np.float32)}
    nodes = [helper.make_node("Conv", ["images", "w"], [f"c{i}"]) for i in range(400)]
    return net(*nodes, helper.make_node("Concat", [f"c{i}" for i in range(400)], ["x"], axis=1), constants=weights)


def sized_by_pixels() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=1),
        helper.make_node("Cast", ["sum"], ["size"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["images", "size"], ["x"]),
    ]
    return net(*nodes)


def declared(dims: list[int], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    model = conv()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = dims
    tensor.data_type = kind
    return model


def cyclic() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["images", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return net(*nodes, helper.make_node("Identity", ["b"], ["x"]))


def batch_of(number: int) -> onnx.ModelProto:
    return net(helper.make_node("Relu", ["images"], ["x"]), batch=number)


def with_attribute(name: str, value: Any) -> onnx.ModelProto:
    return net(helper.make_node("Clip", ["images"], ["x"]), helper.make_node("Relu", ["x"], ["y"], **{name: value}))


BOMBS: dict[str, Callable[[], onnx.ModelProto]] = {
    "pads of a convolution": lambda: conv(pads=[40_000] * 4),
    "pads beyond 64 bits": lambda: conv(pads=[2**62] * 4),
    "negative pads": lambda: conv(pads=[-100] * 4),
    "three pads": lambda: conv(pads=[1, 1, 1]),
    "unequal pads, wide steps": lambda: conv(pads=[0, 0, 60_000, 60_000], strides=[40_000, 40_000]),
    "strides 0": lambda: conv(strides=[0, 0]),
    "strides 0 with SAME": lambda: conv(strides=[0, 0], auto_pad="SAME_UPPER"),
    "strides below 0": lambda: conv(strides=[-1, -1], auto_pad="SAME_LOWER"),
    "one stride": lambda: conv(strides=[2], auto_pad="SAME_UPPER"),
    "dilations 0": lambda: conv(dilations=[0, 0]),
    "dilations beyond 64 bits": lambda: conv(dilations=[2**62, 2**62], auto_pad="SAME_UPPER"),
    "groups 0": lambda: conv(group=0),
    "groups": lambda: conv(group=7),
    "strides of words": lambda: conv(strides=["a", "b"]),
    "pool with strides 0": lambda: pool(strides=[0, 0], ceil_mode=1),
    "pool padded for wide steps": lambda: pool(pads=[0, 0, 60_000, 60_000], strides=[50_000, 50_000]),
    "average padded for wide steps": lambda: pool("AveragePool", pads=[0, 0, 60_000, 60_000], strides=[50_000] * 2),
    "average that counts pads": lambda: pool(
        "AveragePool", pads=[0, 0, 60_000, 60_000], strides=[50_000] * 2, count_include_pad=1
    ),
    "a window of everything": lambda: pool(kernel_shape=[2**40, 2**40], auto_pad="SAME_UPPER"),
    "a window without a size": lambda: pool(kernel_shape=[2]),
    "padding": lambda: padded([0, 0, 0, 0, 0, 0, 50_000, 50_000]),
    "padding of images": lambda: padded([0, 0, 0, 0, 2**40, 0, 0, 0]),
    "padding beyond 64 bits": lambda: padded([2**62] * 8),
    "padding by reflection": lambda: padded([0, 0, 0, 0, 0, 0, 2**40, 2**40], mode="reflect"),
    "padding at the edge": lambda: padded([0, 0, 0, 0, 0, 0, 30_000, 30_000], mode="edge"),
    "a broadcast": outer,
    "a product": lambda: outer("MatMul"),
    "concatenation that doubles": lambda: doubled(30),
    "whole numbers that double": doubled_numbers,
    "too many layers": many_layers,
    "results kept alive": kept_alive,
    "a size from pixels": sized_by_pixels,
    "a huge initializer": lambda: declared([2**40]),
    "an initializer beyond 64 bits": lambda: declared([2**62, 2**62]),
    "an initializer below 0": lambda: declared([-4, -3, 3, 3]),
    "an empty initializer": lambda: declared([0]),
    "an initializer of no known type": lambda: declared([4, 3, 3, 3], 99),
    "an initializer of texts": lambda: declared([4], TensorProto.STRING),
    "a cycle": cyclic,
    "a batch below 0": lambda: batch_of(-1),
    "a huge batch": lambda: batch_of(2**40),
    "an attribute that is infinite": lambda: pool(kernel_shape=[float("inf"), 2.0]),
    "a gap in a graph": lambda: net(helper.make_node("Relu", ["nowhere"], ["x"])),
}


def whole(op: str, *values: Sequence[int], **attributes: Any) -> onnx.ModelProto:
    """An operator that gets whole numbers only, whose result becomes floats that are added to the picture."""
    constants = {f"c{index}": np.array(value, np.int64) for index, value in enumerate(values)}
    nodes = [
        helper.make_node(op, list(constants), ["huge"], **attributes),
        helper.make_node("Cast", ["huge"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Add", ["images", "sum"], ["x"]),
    ]
    return net(*nodes, constants=constants)


def of_images(op: str, *values: Sequence[float], inputs: Sequence[str] = (), **attributes: Any) -> onnx.ModelProto:
    """An operator that gets the picture, or `inputs` in its place, and then numbers: whole ones if they all are."""
    constants = {}
    for index, value in enumerate(values):
        kind = np.int64 if all(isinstance(number, int) for number in value) else np.float32
        constants[f"c{index}"] = np.array(value, kind)
    return net(helper.make_node(op, [*(inputs or ["images"]), *constants], ["x"], **attributes), constants=constants)


def expanded_many_times() -> onnx.ModelProto:
    """Views of one value take nothing; what they come to does, and the last operator waits for all of it."""
    nodes = [helper.make_node("Expand", ["images", "shape"], [f"e{i}"]) for i in range(200)]
    shape = {"shape": np.array([1, 3, 16, 16], np.int64), "wide": np.array([2000, 3, 16, 16], np.int64)}
    nodes += [helper.make_node("ConstantOfShape", ["wide"], [f"k{i}"]) for i in range(200)]
    nodes += [helper.make_node("Add", [f"e{i}", f"k{i}"], [f"a{i}"]) for i in range(200)]
    return net(*nodes, helper.make_node("Concat", [f"a{i}" for i in range(200)], ["x"], axis=1), constants=shape)


def numbers_beyond_64_bits() -> onnx.ModelProto:
    """Sizes that are multiplied until they wrap around."""
    names = [f"s{i}" for i in range(8)]
    nodes = [helper.make_node("Shape", ["images"], ["s0"])]
    nodes += [helper.make_node("Mul", [a, a], [b]) for a, b in pairwise(names)]
    return net(*nodes, helper.make_node("Expand", ["images", "s7"], ["x"]))


def deep(levels: int) -> onnx.ModelProto:
    names = ["images", *(f"d{i}" for i in range(levels - 1)), "x"]
    return net(*(helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)))


def beyond_the_file(**entries: str) -> onnx.ModelProto:
    model = conv()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "model.data", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


ATTENTION_BOMBS: dict[str, Callable[[], onnx.ModelProto]] = {
    "a constant of a huge shape": lambda: whole("ConstantOfShape", [1 << 20, 1 << 19]),
    "a constant beyond 64 bits": lambda: whole("ConstantOfShape", [1 << 62, 1 << 62]),
    "a constant of a shape below 0": lambda: whole("ConstantOfShape", [-4, -4]),
    "a range of everything": lambda: whole("Range", 0, 1 << 60, 1),  # type: ignore[arg-type]
    "a range without an end": lambda: whole("Range", 0, 1, 0),  # type: ignore[arg-type]
    "expansion": lambda: of_images("Expand", [1 << 20, 3, 16, 16]),
    "expansion beyond 64 bits": lambda: of_images("Expand", [1 << 62, 3, 16, 16]),
    "expansion below 0": lambda: of_images("Expand", [-5, 3, 16, 16]),
    "expansions kept alive": expanded_many_times,
    "sizes that wrap around": numbers_beyond_64_bits,
    "tiles": lambda: of_images("Tile", [1, 1, 1 << 12, 1 << 12]),
    "tiles beyond 64 bits": lambda: of_images("Tile", [1 << 40, 1 << 40, 1, 1]),
    "an Einsum of everything": lambda: of_images(
        "Einsum", inputs=["images"] * 3, equation="abcd,efgh,ijkl->abcdefghijkl"
    ),
    "an Einsum of a long equation": lambda: of_images("Einsum", equation="abcd->" + "a" * 10_000),
    "a one-hot of everything": lambda: of_images("OneHot", [1 << 19], [0.5, 1.5], inputs=["images"], axis=-1),
    "a resize to everything": lambda: of_images("Resize", [0.5], [1.0, 1.0, 1e6, 1e6], mode="linear"),
    "a resize beyond numbers": lambda: of_images("Resize", [0.5], [1.0, 1.0, float("inf"), 1.5], mode="linear"),
    "parts that do not fit": lambda: of_images("Split", [1 << 60, 1], axis=1),
    "a split of nothing": lambda: of_images("Split", [-1, 4], axis=1),
    "a gather of everything": lambda: of_images("Gather", [[0] * 200] * 200, axis=0),  # type: ignore[list-item]
    "more operators than are read": lambda: deep(12_500),
    "a deep graph": lambda: deep(6_000),
    "data beyond the end": lambda: beyond_the_file(offset="4096", length=str(1 << 40)),
    "data of another length": lambda: beyond_the_file(offset="0", length="16"),
    "data at a place below 0": lambda: beyond_the_file(offset="-8"),
    "data at a place of many digits": lambda: beyond_the_file(offset="9" * 1000),
    "data in a file that is not there": lambda: beyond_the_file(location="nowhere.data"),
    "data in a folder": lambda: beyond_the_file(location="folder"),
    "data behind a link": lambda: beyond_the_file(location="link.data"),
    "data in a folder above": lambda: beyond_the_file(location="../model.data"),
    "data at a path": lambda: beyond_the_file(location="/etc/passwd"),
    "data in a pipe": lambda: beyond_the_file(location="pipe.data"),
}
BOMBS |= ATTENTION_BOMBS

CHILD = """
import json, resource, sys, time
from pathlib import Path
import onnx, onnxruntime
from hashshield.errors import HashshieldError
from hashshield.models.importing import import_onnx
folder = Path(sys.argv[1])
told = {}
for path in sorted(folder.glob("*.onnx")):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    try:
        import_onnx(path, folder / "card.toml", folder / "out.safetensors")
        outcome = "imported"
    except HashshieldError as error:
        outcome = str(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    told[path.stem] = (outcome, time.process_time() - began, grown)
print(json.dumps(told))
"""


@pytest.mark.long
def test_bombs_are_refused_before_they_run(tmp_path: Path) -> None:
    names = list(BOMBS)
    for index, name in enumerate(names):
        model = BOMBS[name]()
        side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
        assert side == SIDE
        (tmp_path / f"{index:03d}.onnx").write_bytes(model.SerializeToString())
    written(tmp_path, conv(), side=SIDE, bits=None)
    (tmp_path / "model.onnx").rename(tmp_path / "999.onnx")
    (tmp_path / "model.data").write_bytes(bytes(432))
    (tmp_path / "link.data").symlink_to(tmp_path / "model.data")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.data")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert len(told) == len(names) + 1
    (outcome, _, _) = told.pop("999")
    assert outcome == "imported", "the plain one is run"
    for key, (outcome, seconds, grown) in told.items():
        name = names[int(key)]
        assert outcome != "imported", name
        assert outcome.count("\n") == 0, (name, outcome)
        assert f"{key}.onnx" in outcome or "card.toml" in outcome, (name, outcome)
        assert seconds < 10, (name, seconds)
        assert grown < 400, (name, grown)
        print(f"{name:34} {seconds:5.2f} s {grown:4} MB  {outcome.partition(': ')[2]}")


@pytest.mark.parametrize(
    ("name", "says"),
    [("pads of a convolution", "bytes for each image"), ("too many layers", "multiplications for each image")],
)
def test_a_refusal_says_how_much(name: str, says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, BOMBS[name](), side=SIDE, bits=None)
    with pytest.raises(CheckpointError, match=rf"cannot be run on 16 x 16 pixels \(.*Conv.*{says}"):
        import_onnx(path, card, tmp_path / "a.safetensors")


def test_a_graph_of_many_operators_is_looked_through_in_time() -> None:
    """What each operator is the last to read was once looked for anew for each."""
    nodes = [Node("Relu", (f"n{i}" if i else "images",), f"n{i + 1}", {}) for i in range(50_000)]
    began = time.process_time()
    done = last_reads(Graph(tuple(nodes), {}, "images", "n50000", one_by_one=True))
    assert time.process_time() - began < 1
    assert done == [("images",), *((f"n{i}",) for i in range(1, 50_000))]
    unread = Graph((Node("Relu", ("images",), "a", {}), Node("Abs", ("images",), "b", {})), {}, "images", "b", True)
    assert last_reads(unread) == [("a",), ("images",)]


def test_a_wide_output_needs_a_projection(tmp_path: Path) -> None:
    """A square matrix of its length was made for it."""
    inputs = {"images": (TensorProto.FLOAT, [1, 3, 48, 48])}
    model = model_of([helper.make_node("Flatten", ["images"], ["code"])], {}, inputs=inputs, rank=2)
    path, card = written(tmp_path, model, side=48, bits=None)
    with pytest.raises(CheckpointError, match="gives 6912 values, more than a code's 4096 bits; name a projection"):
        import_onnx(path, card, tmp_path / "a.safetensors")


def test_a_stored_graph_is_bounded_too(tmp_path: Path) -> None:
    path, card = written(tmp_path, conv(), side=SIDE, bits=None)
    import_onnx(path, card, tmp_path / "a.safetensors")
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    for old, new, says in (
        (b'"attributes":{}', b'"attributes":{"pads":[9000,9000,9000,9000]}', "bytes for each image"),
        (b'"attributes":{}', b'"attributes":{"auto_pad":"SAME_UPPER","strides":[0,0]}', r"strides of \[0, 0\]"),
        (b'"attributes":{}', b'"attributes":{' + b" " * (4 << 20) + b"}", "up to 4194304 are read"),
    ):
        text = bytes(checkpoint.weights["graph"].tolist()).replace(old, new, 1)
        weights = {**checkpoint.weights, "graph": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        write_checkpoint(tmp_path / "b.safetensors", checkpoint.card, weights, {}, exact=True)
        with pytest.raises(CheckpointError, match=rf"b\.safetensors: its graph cannot be run \(.*{says}"):
            open_models([str(tmp_path / "b.safetensors")])


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_networks_in_use_are_far_from_the_limits(name: str) -> None:
    """The first and the widest layers of two large networks, at the sizes they are used with."""
    draw = {"w": torch.ones(64, 3, 3, 3), "v": torch.ones(64, 64, 3, 3)}
    if name == "vgg":
        nodes = [
            Node("Conv", ("images", "w"), "a", {"pads": [1, 1, 1, 1]}),
            Node("Relu", ("a",), "b", {}),
            Node("Conv", ("b", "v"), "c", {"pads": [1, 1, 1, 1]}),
            Node("GlobalAveragePool", ("c",), "d", {}),
        ]
    else:
        nodes = [
            Node("Conv", ("images", "w"), "a", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            *(Node("Conv", ("a", "v"), "a", {"pads": [1, 1, 1, 1]}) for _ in range(50)),
            Node("GlobalAveragePool", ("a",), "d", {}),
        ]
    assert output_width(Graph(tuple(nodes), draw, "images", "d", one_by_one=False), side=224) == 64


def field(number: int, payload: bytes) -> bytes:
    size, out = len(payload), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes(out) + bytes([size]) + payload


def nested(levels: int) -> bytes:
    """Graphs inside attributes of nodes of graphs."""
    inner = b""
    for _ in range(levels):
        inner = field(1, field(5, field(6, inner)))
    return field(7, inner)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (field(7, field(1, b"") * 300_000), "more than 200,000 fields"),
        (field(7, field(5, field(7, bytes(17 << 20)))), "more than 16 MB of whole numbers"),
        (nested(30), "nested more than 64 levels"),
        (field(7, field(1, b"ab"))[:-1], "a field runs past the end"),
        (b"\xff" * 20, "a number is cut short"),
        (b"\x0b\x0c", "of the unknown kind 3"),
        (field(2, b"\xff\xfe"), "no text in UTF-8"),
        (field(7, field(1, field(1, b"\xff\xfe"))), "no text in UTF-8"),
        (field(7, field(5, field(8, b"\xc3\x28"))), "no text in UTF-8"),
    ],
    ids=["fields", "numbers", "levels", "cut", "varint", "group", "producer", "input", "tensor"],
)
def test_files_that_are_no_network(data: bytes, says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, conv(), side=SIDE, bits=None)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"not an ONNX file \(.*{says}"):
        import_onnx(path, card, tmp_path / "a.safetensors")


def test_a_network_of_any_size_passes_the_look_at_its_bytes() -> None:
    check_wire(hash_net(side=48, channels=4).SerializeToString(), onnx.ModelProto.DESCRIPTOR)


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Change, cut, repeat or remove some bytes, where the structure is more often than in the weights."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(out))
        kind = draw.randrange(6)
        if kind < 3:
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, out[at] ^ 1 << draw.randrange(8)))
        elif kind == 3:
            del out[at : at + draw.choice((1, 2, 16))]
        elif kind == 4:
            out[at:at] = out[at : at + draw.choice((1, 8, 64))]
        else:
            out[at : at + 9] = b"\xff" * 8 + b"\x01"
        if not out:
            break
    return bytes(out)


def fuzzed(number: int, seed: int, folder: Path) -> dict[str, int]:
    """Import so many damaged networks; whatever is no error of this project's comes through."""
    small = conv((4, 3, 1, 1), strides=[4, 4])
    second = net(
        helper.make_node("Shape", ["images"], ["s"]),
        helper.make_node("Slice", ["s", "from", "to"], ["two"]),
        helper.make_node("Concat", ["two", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["images", "shape"], ["r"]),
        helper.make_node("Unsqueeze", ["r", "axes"], ["u"]),
        helper.make_node("MaxPool", ["u"], ["m"], kernel_shape=[1, 2], strides=[1, 2], ceil_mode=1),
        helper.make_node("Pad", ["m", "pads"], ["x"]),
        constants={
            "from": np.array([0], np.int64),
            "to": np.array([2], np.int64),
            "rest": np.array([-1], np.int64),
            "axes": np.array([2], np.int64),
            "pads": np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64),
        },
    )
    third = net(
        helper.make_node("Shape", ["images"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "two"], ["start"]),
        helper.make_node("Concat", ["start", "rest"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["k"]),
        helper.make_node("Expand", ["w", "shape"], ["e"]),
        helper.make_node("Range", ["a", "b", "c"], ["range"]),
        helper.make_node("Cast", ["range"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ScatterND", ["images", "at", "row"], ["scattered"], reduction="add"),
        helper.make_node("Split", ["scattered"], ["left", "right"], axis=3),
        helper.make_node("Einsum", ["left", "right"], ["product"], equation="bchw,bchk->bcwk"),
        helper.make_node("Resize", ["product", "", "scales"], ["resized"], mode="linear"),
        helper.make_node("Trilu", ["resized", "c"], ["triangle"]),
        helper.make_node("Add", ["k", "e"], ["sum"]),
        helper.make_node("Mul", ["triangle", "floats"], ["m"]),
        helper.make_node("ReduceMean", ["sum"], ["mean"], keepdims=0),
        helper.make_node("Add", ["m", "mean"], ["x"]),
        constants={
            "zero": np.array([0], np.int64),
            "two": np.array([2], np.int64),
            "rest": np.array([2, 2], np.int64),
            "w": np.ones((1, 1), np.float32),
            "a": np.array(1, np.int64),
            "b": np.array(17, np.int64),
            "c": np.array(1, np.int64),
            "at": np.array([[0, 1]], np.int64),
            "row": np.ones((1, 16, 16), np.float32),
            "scales": np.array([1, 1, 2, 2], np.float32),
        },
    )
    seeds = [model.SerializeToString() for model in (small, second, third, pool("AveragePool", count_include_pad=1))]
    path, card = written(folder, small, side=SIDE, bits=None)
    draw, outcomes = random.Random(seed), dict[str, int]()
    for index in range(number):
        path.write_bytes(mutate(seeds[index % len(seeds)], draw))
        try:
            import_onnx(path, card, folder / "a.safetensors")
            outcome = "imported"
        except HashshieldError as error:
            outcome = f"{type(error).__name__} of {len(str(error).splitlines())} line"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def test_damaged_networks_raise_nothing_else(tmp_path: Path) -> None:
    outcomes = fuzzed(300, 1, tmp_path)
    assert outcomes.keys() <= {"imported", "CheckpointError of 1 line"}
    assert outcomes["CheckpointError of 1 line"] > 200


@pytest.mark.slow
def test_thousands_of_damaged_networks(tmp_path: Path) -> None:
    outcomes = fuzzed(5000, 2, tmp_path)
    assert outcomes.keys() <= {"imported", "CheckpointError of 1 line"}


def test_numpy_files_are_read_without_pythons_parser(tmp_path: Path) -> None:
    path, card = written(tmp_path, hash_net(side=48, channels=4), side=48)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 40 + b", 128), }\n"
    for data, says in (
        (b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header, "cannot reshape|too large|exceed|maximum"),
        (b"\x93NUMPY\1\0\xf0\xff" + b"[" * 65_520, "not an .npy file of numbers"),
        (b"PK\3\4" + bytes(60), "not an .npy file of numbers"),
    ):
        (tmp_path / "projection.npy").write_bytes(data)
        with pytest.raises(CheckpointError, match=f"cannot be read as a matrix .*({says})"):
            import_onnx(path, card, tmp_path / "a.safetensors")
    matrix = np.asfortranarray(np.random.default_rng(0).normal(size=(24, 128)))
    np.save(tmp_path / "projection.npy", matrix)
    assert import_onnx(path, card, tmp_path / "a.safetensors").bits == (24,)


def test_constants_of_no_value(tmp_path: Path) -> None:
    for nodes in (
        [helper.make_node("Constant", [], ["c"])],
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(1, np.float32)), more=1)],
        [helper.make_node("Constant", [], ["c"], value_ints=[1.5])],
        [helper.make_node("Constant", [], ["c"], value=3)],
    ):
        path, card = written(tmp_path, net(*nodes, helper.make_node("Relu", ["images"], ["x"])), side=SIDE, bits=None)
        with pytest.raises(CheckpointError, match=r"model\.onnx"):
            import_onnx(path, card, tmp_path / "a.safetensors")


def counted(number: int) -> bytes:
    """Seven bits a byte."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def with_a_tensor(path: Path, number: int, size: int, dims: Sequence[int]) -> None:
    """Write a sparse file: a network with one more initializer, whose field `number` has `size` bytes."""
    tensor = b"".join(b"\x08" + counted(side) for side in dims) + b"\x10\x01" + field(8, b"more")
    tensor += bytes([number << 3 | 2]) + counted(size)
    inner = b"\x2a" + counted(len(tensor) + size) + tensor
    with path.open("wb") as handle:
        handle.write(conv().SerializeToString() + b"\x3a" + counted(len(inner) + size) + inner)
        handle.truncate(handle.tell() + size)


def test_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """Half a gigabyte each: of another shape, of floats and whole numbers one by one, of nothing, of data beside."""
    size = 500 << 20
    written(tmp_path, conv(), side=SIDE, bits=None)
    (tmp_path / "model.onnx").unlink()
    for name, number, dims in (("shape", 9, [7]), ("floats", 4, [size // 4]), ("numbers", 7, [size])):
        with_a_tensor(tmp_path / f"{name}.onnx", number, size, dims)
    with_a_tensor(tmp_path / "unused.onnx", 9, size, [size // 4])
    for name, length in (("zeros.onnx", size), ("larger.onnx", 513 << 20), ("model.data", 600 << 20)):
        with (tmp_path / name).open("wb") as handle:
            handle.truncate(length)
    (tmp_path / "beside.onnx").write_bytes(beyond_the_file().SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    for name, says in {
        "shape": "tensor 'more' does not hold its shape",
        "floats": "more than 96 MB besides the raw data",
        "numbers": "more than 16 MB of whole numbers",
        "unused": "imported",
        "zeros": "more than 200,000 fields",
        "larger": "537919488 bytes; networks of up to 536870912",
        "beside": "its data file model.data: 629145600 bytes",
    }.items():
        outcome, seconds, grown = told[name]
        assert says in outcome, (name, outcome)
        assert outcome.count("\n") == 0
        assert seconds < 10
        assert grown < 100, (name, grown)
