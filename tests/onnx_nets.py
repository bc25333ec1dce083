"""Small hash networks in ONNX, built by hand; as a module because fixtures cannot be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tiny_net import picture

CARD = """
name = "foreign"
licence = "CC0-1.0"
attribution = "made for this test"
projection = "{projection}"

[input]
resize = {side}
crop = {side}
interpolation = "bilinear"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    *,
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    opset: int = 17,
    rank: int | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("code", TensorProto.FLOAT, ["?"] * rank if rank else None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def hash_net(
    *, side: int = 360, batch: int | str = 1, features: int = 128, channels: int = 8, seed: int = 0
) -> onnx.ModelProto:
    """Images in [-1, 1] -> `features` values: few channels, so that 360 pixels are quick.

    Values are centred and spread over pictures, as a trained network's are.
    """
    draw = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (draw.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    c = channels
    constants = {
        "w1": weights(c, 3, 7, 7) * 2,
        "b1": weights(c) * 0.1,
        "scale": np.full(c, 1.5, np.float32),
        "shift": weights(c) * 0.2,
        "mean": weights(c) * 0.1,
        "variance": np.full(c, 0.5, np.float32),
        "w2": weights(2 * c, c, 3, 3) * 2,
        "w3": weights(2 * c, 1, 3, 3),
        "w4": weights(2 * c, 2 * c, 1, 1) * 2,
        "low": np.float32(0.0),
        "high": np.float32(6.0),
        "w5": weights(features, 2 * c * (-(-side // 48)) ** 2),
        "b5": np.zeros(features, np.float32),
        "shape": np.array([1 if batch == 1 else 0, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], strides=[4, 4], pads=[3, 3, 3, 3]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("HardSwish", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], pads=[1, 1, 1, 1], group=2 * c),
        helper.make_node("Clip", ["c3", "low", "high"], ["r3"]),
        helper.make_node("Conv", ["r3", "w4"], ["c4"]),
        helper.make_node("Add", ["c4", "r2"], ["a4"]),
        helper.make_node("AveragePool", ["a4"], ["p4"], kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1),
        helper.make_node("Reshape", ["p4", "shape"], ["f4"]),
        helper.make_node("Gemm", ["f4", "w5", "b5"], ["code"], transB=1),
    ]
    inputs = {"images": (TensorProto.FLOAT, [batch, 3, side, side])}
    data = model_of(nodes, constants, inputs=inputs, rank=2).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    seen = [picture(side, side, seed=100 + i).transpose(2, 0, 1)[None] / np.float32(127.5) - 1 for i in range(32)]
    values = np.concatenate([session.run(None, {"images": image})[0] for image in seen])
    constants["w5"] /= values.std(0)[:, None]
    constants["b5"] -= (values / values.std(0)).mean(0)
    return model_of(nodes, constants, inputs=inputs, rank=2)


def written(
    folder: Path,
    model: onnx.ModelProto,
    *,
    bits: int | None = 96,
    side: int = 360,
    **changes: Any,
) -> tuple[Path, Path]:
    """The network as model.onnx and its card.toml in `folder`, with a projection of `bits` rows where there are any."""
    path, card = folder / "model.onnx", folder / "card.toml"
    path.write_bytes(model.SerializeToString())
    text = CARD.format(projection="projection.npy" if bits else "", side=side)
    for old, new in changes.items():
        text = text.replace(f"\n{old} = ", f"\n{old} = {new} #")
    card.write_text(text)
    if bits:
        np.save(folder / "projection.npy", np.random.default_rng(1).normal(size=(bits, 128)).astype(np.float32))
    return path, card
