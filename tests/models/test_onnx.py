from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hashshield import imaging
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.errors import CheckpointError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models import onnx_file
from hashshield.models.graph import GRAPH_ARCH
from hashshield.models.importing import import_onnx
from hashshield.models.load import open_models
from hashshield.models.operators import OPERATORS
from hashshield.pipeline.protect import protect
from hashshield.transforms import pillow_view
from hashshield.types import Request
from onnx_nets import hash_net, model_of, written
from tiny_net import encoded, picture


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1x3x360x360 in [-1, 1], 128 values out, a 96x128 projection: imported."""
    folder = tmp_path_factory.mktemp("large")
    import_onnx(*written(folder, hash_net()), folder / "foreign.safetensors")
    return folder / "foreign.safetensors"


def answers(folder: Path, images: np.ndarray) -> np.ndarray:
    """What onnxruntime says of images in [0, 1], projected: nothing of the importer is asked."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"images": image[None] * 2 - 1})[0][0] for image in images]
    return np.stack(rows) @ np.load(folder / "projection.npy").T


def test_an_imported_network_says_what_onnxruntime_says(large: Path) -> None:
    images = np.random.default_rng(3).random((3, 3, 360, 360), dtype=np.float32)
    images[:2] = images[:2] * 0.2 + 0.4
    (opened,) = open_models([f"{large}:96"])
    expected = answers(large.parent, images)
    with torch.inference_mode():
        codes = opened.model(torch.from_numpy(images))
    assert codes.code.shape == (3, 96)
    assert codes.features.shape == (3, 128)
    assert np.abs(codes.code.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len({row.tobytes() for row in bits_of(expected)}) == 3
    assert opened.anchors is None


def test_its_image_gets_a_gradient_and_nothing_else_does(large: Path) -> None:
    (opened,) = open_models([str(large)])
    image = torch.from_numpy(np.random.default_rng(0).random((2, 3, 360, 360), dtype=np.float32)).requires_grad_()
    (gradient,) = torch.autograd.grad(opened.model(image).code.square().sum(), image)
    assert torch.isfinite(gradient).all()
    assert float((gradient != 0).float().mean()) > 0.5
    assert not any(tensor.requires_grad for tensor in opened.model.parameters())


def test_the_card_is_that_of_the_file(large: Path) -> None:
    card = read_card(large)
    assert (card.name, card.arch, card.bits, card.licence) == ("foreign", GRAPH_ARCH, (96,), "CC0-1.0")
    assert (card.input.crop, card.input.mean, card.input.std) == (360, (0.5,) * 3, (0.5,) * 3)
    assert card.recipe == {"imported": "model.onnx"}
    assert [p.name for p in large.parent.iterdir() if "trial" in p.name] == []


@pytest.mark.parametrize("batch", [1, "N", "?"])
def test_batches_of_any_size(batch: int | str, tmp_path: Path) -> None:
    path, card = written(tmp_path, hash_net(side=48, batch=batch, channels=4), side=48)
    import_onnx(path, card, tmp_path / "a.safetensors")
    (opened,) = open_models([str(tmp_path / "a.safetensors")])
    images = np.random.default_rng(3).random((5, 3, 48, 48), dtype=np.float32)
    expected = answers(tmp_path, images)
    with torch.inference_mode():
        found = opened.model(torch.from_numpy(images)).code.numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_network_without_a_projection_gives_the_code_itself(tmp_path: Path) -> None:
    path, card = written(tmp_path, hash_net(side=48, features=32), side=48, bits=None)
    stored = import_onnx(path, card, tmp_path / "a.safetensors")
    assert stored.bits == (32,)
    (opened,) = open_models([str(tmp_path / "a.safetensors")])
    codes = opened.model(torch.rand(2, 3, 48, 48))
    assert torch.equal(codes.code, codes.features)


def test_a_projection_of_raw_float32(tmp_path: Path) -> None:
    path, card = written(tmp_path, hash_net(side=48), side=48)
    import_onnx(path, card, tmp_path / "a.safetensors")
    np.load(tmp_path / "projection.npy").astype("<f4").tofile(tmp_path / "matrix.bin")
    card.write_text(card.read_text().replace("projection.npy", "matrix.bin"))
    import_onnx(path, card, tmp_path / "b.safetensors")
    one, other = (read_checkpoint(tmp_path / f"{n}.safetensors").weights["heads.96.weight"] for n in "ab")
    assert one.equal(other)


def small(**changes: Any) -> onnx.ModelProto:
    return hash_net(side=48, channels=4, **changes)


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def outside_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    tensor.external_data.add(key="location", value="../secret")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["x"], value=tensor))


def outside_in_a_subgraph(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "deep")
    tensor.data_location = TensorProto.EXTERNAL
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model.graph.node.insert(0, helper.make_node("If", ["c"], ["x"], then_branch=branch, else_branch=branch))


def of_another_domain(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Det"


def with_a_function(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], nodes, opsets))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 7
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            node.op_type = "Relu"
        if node.op_type in ("Clip", "AveragePool"):
            del node.input[1:], node.attribute[:]
            node.op_type = "Identity"


def of_texts(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.STRING, [1], [b"weights"]))


def short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def absurd(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**50


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def channels_last(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 48, 48, 3]))


def of_bytes(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def for_eight(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def loose_end(model: onnx.ModelProto) -> None:
    model.graph.node[4].input[0] = "nothing"


def wrong_shapes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [7, 7, 3, 4]


def training(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))


def not_a_number(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].raw_data = struct.pack("<4f", 1, float("nan"), 1, 1)


def blind(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = bytes(len(tensor.raw_data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (outside, "keeps its data in another file"),
        (outside_in_an_attribute, "tensor 'hidden' keeps its data in another file"),
        (outside_in_a_subgraph, "tensor 'deep' keeps its data in another file"),
        (of_another_domain, r"com\.example\.Relu is not a standard ONNX operator"),
        (unknown_operator, "the operator Det is not among"),
        (with_a_function, "holds a FunctionProto"),
        (sparse, "holds a SparseTensorProto"),
        (old, "operator set 7; 9 to 28 are read"),
        (of_texts, "is of type STRING; export the network in float32"),
        (short, "does not hold its shape|not a valid ONNX network"),
        (absurd, "does not hold its shape|not a valid ONNX network"),
        (two_inputs, "2 inputs and 1 outputs"),
        (channels_last, "with channels first"),
        (of_bytes, "of type 2; the card says float32"),
        (for_eight, "made for batches of 8"),
        (loose_end, "not a valid ONNX network"),
        (wrong_shapes, "cannot be run on 48 x 48 pixels"),
        (training, "training mode"),
        (not_a_number, "NaN or infinite"),
        (blind, "96 of 96 bits do not react"),
    ],
)
def test_what_is_not_one_plain_network_is_refused(
    change: Callable[[onnx.ModelProto], None], says: str, tmp_path: Path
) -> None:
    model = small()
    change(model)
    path, card = written(tmp_path, model, side=48)
    with pytest.raises(CheckpointError, match=says) as caught:
        import_onnx(path, card, tmp_path / "a.safetensors")
    assert str(tmp_path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.toml", "model.onnx", "projection.npy"]


def test_external_data_is_refused_before_any_other_file_is_opened(tmp_path: Path) -> None:
    model = small()
    outside(model)
    path, card = written(tmp_path, model, side=48)
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    with pytest.raises(CheckpointError, match="keeps its data in another file"):
        import_onnx(path, card, tmp_path / "a.safetensors")
    assert str(path) in opened
    assert "/etc/passwd" not in opened


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\x00 not protobuf", "not an ONNX file"),
        (b"", "not a valid ONNX network"),
        (b"PK\x03\x04", "not an ONNX file|not a valid ONNX network"),
        (b"\x08" * 500, "not an ONNX file|not a valid ONNX network"),
    ],
)
def test_what_is_no_onnx_is_named(data: bytes, says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=says):
        import_onnx(path, card, tmp_path / "a.safetensors")


def test_files_that_are_missing_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, card = written(tmp_path, small(), side=48)
    with pytest.raises(CheckpointError, match=r"nowhere\.onnx: cannot be read"):
        import_onnx(tmp_path / "nowhere.onnx", card, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match=r"nowhere\.toml: cannot be read as a card"):
        import_onnx(path, tmp_path / "nowhere.toml", tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match=r"a checkpoint's name ends with \.safetensors"):
        import_onnx(path, card, tmp_path / "a.pt")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        import_onnx(path, card, tmp_path / "taken.safetensors")
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 1000)
    with pytest.raises(CheckpointError, match=r"bytes; networks of up to 1000 are imported"):
        import_onnx(path, card, tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match=r"install hashshield\[onnx\]"):
        import_onnx(path, card, tmp_path / "a.safetensors")


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def saved(matrix: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, matrix)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pickled(), "cannot be read as a matrix"),
        (b"", "cannot be read as a matrix"),
        (b"\x93NUMPY\x01\x00", "cannot be read as a matrix"),
        (saved(np.zeros((128, 96), np.float32)), r"shape \(128, 96\); expected floats of shape \(bits, 128\)"),
        (saved(np.zeros(128, np.float32)), r"shape \(128,\)"),
        (saved(np.zeros((0, 128), np.float32)), r"shape \(0, 128\)"),
        (saved(np.zeros((4, 128), np.int64)), "holds int64"),
        (saved(np.full((4, 128), np.inf)), "NaN or infinite"),
    ],
)
def test_a_projection_that_is_none(data: bytes, says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48)
    (tmp_path / "projection.npy").write_bytes(data)
    with pytest.raises(CheckpointError, match=says):
        import_onnx(path, card, tmp_path / "a.safetensors")


def test_raw_bytes_of_another_length(tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48, projection='"raw.bin"')
    (tmp_path / "raw.bin").write_bytes(bytes(4 * 129))
    with pytest.raises(CheckpointError, match=r"shape \(129,\); expected floats of shape \(bits, 128\)"):
        import_onnx(path, card, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("entry", "value", "says"),
    [
        ("name", "3", "name must be a string"),
        ("name", '""', "name must be a string"),
        ("licence", "[1]", "licence must be a string"),
        ("crop", "8", "input geometry"),
        ("crop", '"x"', "the card is invalid"),
        ("mean", "[0.5]", "three finite numbers"),
        ("std", "[0.5, 0.0, 0.5]", "not positive"),
        ("std", "0.5", "the card is invalid"),
        ("interpolation", '"nearest"', "input geometry"),
        ("interpolation", "", "cannot be read as a card"),
    ],
)
def test_a_card_that_cannot_be_meant_so(entry: str, value: str, says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48, **{entry: value})
    with pytest.raises(UsageError, match=says) as caught:
        import_onnx(path, card, tmp_path / "a.safetensors")
    assert str(card) in str(caught.value)


def test_a_card_with_an_unknown_entry_or_without_a_table(tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48)
    text = card.read_text()
    for wrong, says in (("author = 1\n" + text, "no entry 'author' is known"), ('name = "a"\n', "lacks 'input'")):
        card.write_text(wrong)
        with pytest.raises(UsageError, match=says):
            import_onnx(path, card, tmp_path / "a.safetensors")


def test_an_operator_that_means_something_else_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, card = written(tmp_path, small(), side=48)
    right = OPERATORS["HardSwish"]
    monkeypatch.setitem(OPERATORS, "HardSwish", lambda a, x: right(a, x) * 1.001)
    with pytest.raises(
        CheckpointError, match=r"differ from onnxruntime's by .* more than 0\.0001.*Nothing was written"
    ):
        import_onnx(path, card, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def stored_with(program: Callable[[dict[str, Any]], Any], source: Path, target: Path) -> Path:
    """The imported file with its program changed, as somebody might who means harm."""
    checkpoint = read_checkpoint(source)
    raw = json.loads(bytes(checkpoint.weights["graph"].to(torch.uint8).tolist()))
    changed = program(raw)
    text = changed if isinstance(changed, bytes) else json.dumps(raw).encode()
    weights = {**checkpoint.weights, "graph": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    card: Card = checkpoint.card
    write_checkpoint(target, card, weights, {}, exact=True)
    return target


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (lambda raw: b"\xff\xfe", "cannot be run"),
        (lambda raw: b"[]", "its graph cannot be read"),
        (lambda raw: b"[" * 100_000, "its graph cannot be read"),
        (lambda raw: raw["nodes"][0].update(op="__import__"), "the operator __import__ is not among"),
        (lambda raw: raw["nodes"][0].update(inputs=["code"]), "reads 'code', which nothing before it gives"),
        (lambda raw: raw["nodes"][0]["attributes"].update(strides={"a": 1}), "neither numbers nor a word"),
        (lambda raw: raw["nodes"][0]["attributes"].update(strides=[0, 0]), "cannot be run"),
        (lambda raw: raw["nodes"][0]["attributes"].update(pads=[1]), "cannot be run"),
        (lambda raw: raw["nodes"][3]["attributes"].pop("kernel_shape"), "cannot be run"),
        (lambda raw: raw["nodes"][0].update(inputs=["images"]), "cannot be run"),
        (lambda raw: raw["nodes"].clear(), "a network of 0 operators"),
        (lambda raw: raw.update(output="nothing"), "nothing gives the output 'nothing'"),
        (lambda raw: raw.update(output="shape"), "cannot be run"),
        (lambda raw: raw["constants"].append("more"), "its graph cannot be read"),
        (lambda raw: raw.pop("input"), "its graph cannot be read"),
    ],
)
def test_a_forged_graph_is_refused(program: Callable[[dict[str, Any]], Any], says: str, tmp_path: Path) -> None:
    path, card = written(tmp_path, small(), side=48)
    import_onnx(path, card, tmp_path / "a.safetensors")
    forged = stored_with(program, tmp_path / "a.safetensors", tmp_path / "forged.safetensors")
    with pytest.raises(CheckpointError, match=says) as caught:
        open_models([str(forged)])
    assert "forged.safetensors" in str(caught.value)


@pytest.mark.parametrize("batch", [1, "N"])
def test_constants_and_sizes_that_are_computed(batch: int | str, tmp_path: Path) -> None:
    """What exporters make of x.view(x.size(0), -1), with the numbers in Constant nodes."""
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.array([-1], np.int64))),
        helper.make_node("Conv", ["images", "w"], ["c"], strides=[8, 8]),
        helper.make_node("Mul", ["c", "two"], ["m"]),
        helper.make_node("Shape", ["m"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["u"]),
        helper.make_node("Concat", ["u", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["m", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["code"], transB=1),
    ]
    constants = {
        "w": draw.normal(size=(4, 3, 8, 8)).astype(np.float32),
        "g": draw.normal(size=(128, 64)).astype(np.float32),
    }
    model = model_of(nodes, constants, inputs={"images": (TensorProto.FLOAT, [batch, 3, 32, 32])}, rank=2)
    path, card = written(tmp_path, model, side=32)
    assert import_onnx(path, card, tmp_path / "a.safetensors").bits == (96,)


def test_a_photo_is_protected_against_it(large: Path, tmp_path: Path) -> None:
    """A photo is changed in place until onnxruntime itself gives it another code."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(picture(400, 520, seed=5)))

    class Silent:
        def start(self, total: int) -> None: ...
        def photo(self, path: str) -> None: ...
        def done(self, outcome: object) -> None: ...
        def notice(self, text: str) -> None: ...

    before = photo.read_bytes()
    request = Request(
        models=(f"{large}:96",),
        preset="invisible",
        steps=80,
        max_visible="obvious",
        vault=tmp_path / "vault",
        device="cpu",
        seed=1,
    )
    (row,) = protect([photo], request, progress=Silent())
    assert row.status == "protected", row.reason
    assert row.bits == 96
    assert photo.read_bytes() != before
    size = read_card(large).input
    views = [pillow_view(imaging.read(data, name="x").pixels, size).numpy() for data in (before, photo.read_bytes())]
    one, other = bits_of(answers(large.parent, np.stack(views)))
    assert 0.4 * 96 <= np.count_nonzero(one != other) <= 0.6 * 96
