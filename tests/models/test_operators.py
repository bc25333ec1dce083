"""Each operator against onnxruntime, the independent oracle, in the forms that exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from hashshield.models.operators import OPERATORS
from onnx_nets import model_of

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(2, 4, 9, 10)).astype(np.float32)
POSITIVE = np.abs(X) + 0.1
FLAT = DRAW.normal(size=(2, 6)).astype(np.float32)
SQUARE = DRAW.normal(size=(6, 6)).astype(np.float32)
PLANES = tuple(np.abs(DRAW.normal(size=4)).astype(np.float32) for _ in range(4))


def kernel(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


SAME = {"kernel_shape": [3, 3], "strides": [2, 2]}
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], int]] = [
    ("Abs", (X,), {}, 17),
    ("Add", (X, PLANES[0].reshape(4, 1, 1)), {}, 17),
    ("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 17),
    ("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 2]}, 17),
    ("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1}, 17),
    ("AveragePool", (X,), {**SAME, "ceil_mode": 1}, 17),
    ("AveragePool", (X,), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 17),
    ("AveragePool", (X,), {**SAME, "auto_pad": "SAME_UPPER"}, 17),
    ("BatchNormalization", (X, *PLANES), {"epsilon": 1e-3}, 17),
    ("BatchNormalization", (X, *PLANES), {}, 9),
    ("Cast", (ints(1, 2, 3),), {"to": 1}, 17),
    ("Clip", (X, number(-0.5), number(0.5)), {}, 17),
    ("Clip", (X, None, number(0.5)), {}, 17),
    ("Clip", (X,), {}, 17),
    ("Clip", (X,), {"min": 0.0, "max": 6.0}, 10),
    ("Concat", (X, POSITIVE), {"axis": 1}, 17),
    ("Conv", (X, kernel(5, 4, 3, 3)), {}, 17),
    ("Conv", (X, kernel(5, 4, 3, 3), kernel(5)), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, 17),
    ("Conv", (X, kernel(5, 4, 3, 3)), {"pads": [0, 1, 2, 3], "dilations": [2, 1]}, 17),
    ("Conv", (X, kernel(5, 4, 3, 2)), {"strides": [2, 3], "auto_pad": "SAME_UPPER"}, 17),
    ("Conv", (X, kernel(5, 4, 3, 4)), {"strides": [2, 1], "auto_pad": "SAME_LOWER"}, 17),
    ("Conv", (X, kernel(5, 4, 3, 3)), {"auto_pad": "VALID", "strides": [2, 2]}, 17),
    ("Conv", (X, kernel(8, 1, 3, 3)), {"group": 4, "pads": [1, 1, 1, 1]}, 22),
    ("Div", (X, POSITIVE), {}, 17),
    ("Dropout", (X,), {}, 17),
    ("Elu", (X,), {"alpha": 0.5}, 17),
    ("Erf", (X,), {}, 17),
    ("Exp", (X,), {}, 17),
    ("Flatten", (X,), {}, 17),
    ("Flatten", (X,), {"axis": 2}, 17),
    ("Flatten", (X,), {"axis": -1}, 17),
    ("Flatten", (X,), {"axis": 0}, 17),
    ("Gather", (X, ints(1, -1)), {"axis": 1}, 17),
    ("Gather", (X, np.array(2, np.int64)), {"axis": -1}, 17),
    ("Gather", (kernel(3), np.array(-1, np.int64)), {}, 17),
    ("Gelu", (X,), {}, 20),
    ("Gelu", (X,), {"approximate": "tanh"}, 20),
    ("Gemm", (FLAT, SQUARE), {}, 17),
    ("Gemm", (FLAT, SQUARE, kernel(6)), {"alpha": 0.5, "beta": 2.0, "transB": 1}, 17),
    ("Gemm", (FLAT.T.copy(), SQUARE), {"transA": 1}, 13),
    ("GlobalAveragePool", (X,), {}, 17),
    ("GlobalMaxPool", (X,), {}, 17),
    ("HardSigmoid", (X,), {}, 17),
    ("HardSigmoid", (X,), {"alpha": 0.3, "beta": 0.4}, 17),
    ("HardSwish", (X * 3,), {}, 17),
    ("Identity", (X,), {}, 17),
    ("LayerNormalization", (X, kernel(10), kernel(10)), {}, 17),
    ("LayerNormalization", (X, kernel(9, 10)), {"axis": 2, "epsilon": 1e-3}, 17),
    ("LeakyRelu", (X,), {}, 17),
    ("LeakyRelu", (X,), {"alpha": 0.2}, 17),
    ("LpNormalization", (FLAT,), {"axis": 1}, 17),
    ("LpNormalization", (FLAT,), {"p": 1}, 17),
    ("MatMul", (FLAT, SQUARE), {}, 17),
    ("Max", (X, number(0.2)), {}, 17),
    ("MaxPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 17),
    ("MaxPool", (X,), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}, 17),
    ("MaxPool", (X,), {**SAME, "ceil_mode": 1}, 17),
    ("MaxPool", (X,), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}, 17),
    ("MaxPool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 2]}, 17),
    ("MaxPool", (X,), {**SAME, "auto_pad": "SAME_LOWER"}, 12),
    ("Min", (X, POSITIVE, number(0.2)), {}, 17),
    ("Mul", (X, POSITIVE), {}, 17),
    ("Neg", (X,), {}, 17),
    ("PRelu", (X, PLANES[0].reshape(4, 1, 1)), {}, 17),
    ("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 0)), {}, 17),
    ("Pad", (X, ints(0, 1, 0, 0, 0, 2, 0, 0), number(0.5)), {}, 17),
    ("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 0)), {"mode": "reflect"}, 17),
    ("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 0)), {"mode": "edge"}, 17),
    ("Pad", (X, ints(1, 2, 3, 0), None, ints(2, 3)), {}, 18),
    ("Pad", (X,), {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 0.25}, 10),
    ("Pow", (POSITIVE, number(1.5)), {}, 17),
    ("Reciprocal", (POSITIVE,), {}, 17),
    ("ReduceL2", (X,), {"axes": [1], "keepdims": 1}, 17),
    ("ReduceL2", (X, ints(1)), {"keepdims": 0}, 18),
    ("ReduceMax", (X,), {"axes": [2, 3]}, 17),
    ("ReduceMean", (X,), {"axes": [2, 3], "keepdims": 0}, 17),
    ("ReduceMean", (X, ints(-1, -2)), {"keepdims": 0}, 18),
    ("ReduceMean", (X,), {}, 18),
    ("ReduceMean", (X,), {"noop_with_empty_axes": 1}, 18),
    ("ReduceSum", (X, ints(1)), {}, 17),
    ("Relu", (X,), {}, 17),
    ("Reshape", (X, ints(0, -1)), {}, 17),
    ("Reshape", (X, ints(2, 0, -1)), {}, 17),
    ("Shape", (X,), {}, 17),
    ("Shape", (X,), {"start": 1, "end": -1}, 17),
    ("Sigmoid", (X,), {}, 17),
    ("Slice", (X, ints(1), ints(9), ints(2), ints(3)), {}, 17),
    ("Slice", (X, ints(0, -3), ints(1, 100), ints(0, -1)), {}, 17),
    ("Slice", (X,), {"starts": [1], "ends": [3], "axes": [1]}, 9),
    ("Softmax", (FLAT,), {}, 17),
    ("Softmax", (X,), {"axis": 1}, 13),
    ("Softplus", (X,), {}, 17),
    ("Sqrt", (POSITIVE,), {}, 17),
    ("Squeeze", (X[:1, :, :, :1], ints(0, 3)), {}, 17),
    ("Squeeze", (X[:1, :, :, :1],), {}, 17),
    ("Squeeze", (X[:1],), {"axes": [0]}, 11),
    ("Sub", (X, POSITIVE), {}, 17),
    ("Tanh", (X,), {}, 17),
    ("Transpose", (X,), {"perm": [0, 2, 3, 1]}, 17),
    ("Transpose", (X,), {}, 17),
    ("Unsqueeze", (FLAT, ints(1, -1)), {}, 17),
    ("Unsqueeze", (FLAT,), {"axes": [0, 3]}, 11),
]


def expected(op: str, inputs: tuple[Any, ...], attributes: dict[str, Any], opset: int) -> np.ndarray:
    names = ["" if value is None else f"i{index}" for index, value in enumerate(inputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if name}
    kinds = {name: (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in given.items()}
    model = model_of([helper.make_node(op, names, ["code"], **attributes)], {}, inputs=kinds, opset=opset)
    if op == "Shape":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, given)[0]
    return found


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "opset"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_an_operator_means_what_onnxruntime_means(
    op: str, inputs: tuple[Any, ...], attributes: dict[str, Any], opset: int
) -> None:
    wanted = expected(op, inputs, attributes, opset)
    tensors = [None if value is None else torch.from_numpy(np.array(value)) for value in inputs]
    found = OPERATORS[op](attributes, *tensors)
    assert tuple(found.shape) == wanted.shape
    assert np.allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)
    for laid_out in (t for t in tensors if t is not None and t.dim() == 4 and len(t) == 2):
        laid_out.data = laid_out.contiguous(memory_format=torch.channels_last)
    assert np.allclose(OPERATORS[op](attributes, *tensors).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_every_operator_is_compared() -> None:
    assert sorted({case[0] for case in CASES}) == sorted(OPERATORS) == list(OPERATORS)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "says"),
    [
        ("Slice", (X, ints(9), ints(0), ints(2), ints(-1)), {}, "runs backwards"),
        ("AveragePool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilated"),
        ("Pad", (X, ints(0, 1, 0, 0, 0, 1, 0, 0)), {"mode": "reflect"}, "two last axes"),
    ],
)
def test_what_is_left_out_says_so(op: str, inputs: tuple[Any, ...], attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OPERATORS[op](attributes, *map(torch.from_numpy, inputs))


def test_whole_numbers_are_divided_towards_zero() -> None:
    assert OPERATORS["Div"]({}, torch.tensor([7, -7]), torch.tensor([2, 2])).tolist() == [3, -3]


def test_the_module_lists_no_operator_twice() -> None:
    text = (Path(__file__).parents[2] / "src/hashshield/models/operators.py").read_text()
    assert all(text.count(f'\n    "{op}": ') == 1 for op in OPERATORS)
