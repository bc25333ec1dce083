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

WHOLE = np.array([[7, -7, 3], [2, -3, 5]], np.int64)
TRUE = X > 0
ATTENTION: list[tuple[str, tuple[Any, ...], dict[str, Any], int]] = [
    ("And", (TRUE, X > 0.5), {}, 17),
    ("CastLike", (ints(1, 2), number(0)), {}, 17),
    ("Ceil", (X * 3,), {}, 17),
    ("ConstantOfShape", (ints(2, 3),), {}, 17),
    ("ConstantOfShape", (ints(2, 0, 3),), {"value": 7}, 17),
    ("Cos", (X,), {}, 17),
    ("CumSum", (X, np.array(1, np.int64)), {}, 17),
    ("Einsum", (X, kernel(2, 10, 9)), {"equation": "bchw,bwk->bchk"}, 17),
    ("Einsum", (FLAT, SQUARE), {"equation": "...i, ij -> ...j"}, 17),
    ("Equal", (WHOLE, ints(7, -7, 5)), {}, 17),
    ("Expand", (PLANES[0].reshape(4, 1, 1), ints(2, 1, 3, 1)), {}, 17),
    ("Expand", (X, ints(1, 1)), {}, 17),
    ("Floor", (X * 3,), {}, 17),
    ("GatherElements", (FLAT, WHOLE % 2), {"axis": 1}, 17),
    ("GatherElements", (FLAT, -1 - WHOLE % 2), {}, 17),
    ("GatherND", (X, np.array([[0, 1], [1, -1]], np.int64)), {}, 17),
    ("GlobalAveragePool", (X[0],), {}, 17),
    ("Greater", (X, number(0.2)), {}, 17),
    ("GreaterOrEqual", (WHOLE, ints(2, -7, 5)), {}, 17),
    ("GroupNormalization", (X, *PLANES[:2]), {"num_groups": 2}, 21),
    ("GroupNormalization", (X, PLANES[0][:2], PLANES[1][:2]), {"num_groups": 2, "epsilon": 1e-3}, 18),
    ("InstanceNormalization", (X, *PLANES[:2]), {"epsilon": 1e-3}, 17),
    ("IsNaN", (np.array([1, np.nan], np.float32),), {}, 17),
    ("Less", (X, number(0.2)), {}, 17),
    ("LessOrEqual", (WHOLE, ints(2, -7, 5)), {}, 17),
    ("Log", (POSITIVE,), {}, 17),
    ("MatMul", (X, kernel(10, 5)), {}, 17),
    ("MatMul", (X, kernel(4, 10, 5)), {}, 17),
    ("MatMul", (X, kernel(10)), {}, 17),
    ("Mod", (WHOLE, ints(3, 3, -2)), {}, 17),
    ("Mod", (X, number(0.3)), {"fmod": 1}, 17),
    ("Not", (TRUE,), {}, 17),
    ("OneHot", (ints(0, 2, -1, 5), ints(4), np.array([0.5, 2], np.float32)), {}, 17),
    ("OneHot", (WHOLE % 3, ints(3), np.array([0, 1], np.float32)), {"axis": 1}, 17),
    ("Or", (TRUE, X > 0.5), {}, 17),
    ("Pow", (WHOLE, number(2)), {}, 17),
    ("RMSNormalization", (X, kernel(10)), {"epsilon": 1e-3}, 23),
    ("Range", (np.array(2, np.int64), np.array(9, np.int64), np.array(3, np.int64)), {}, 17),
    ("Range", (number(5), number(0), number(-0.75)), {}, 17),
    ("Range", (np.array(2, np.int64), np.array(-9, np.int64), np.array(3, np.int64)), {}, 17),
    ("ReduceMin", (X, ints(1)), {"keepdims": 0}, 18),
    ("ReduceProd", (WHOLE,), {"keepdims": 0}, 17),
    ("ReduceProd", (X,), {"axes": [1, 3]}, 17),
    ("ReduceSumSquare", (X,), {"axes": [1]}, 17),
    ("Resize", (X, None, np.array([1, 1, 1.7, 2.35], np.float32)), {"mode": "cubic"}, 17),
    ("Resize", (X, None, None, ints(2, 4, 13, 7)), {"mode": "cubic"}, 17),
    (
        "Resize",
        (X, None, None, ints(2, 4, 5, 7)),
        {"mode": "cubic", "cubic_coeff_a": -0.5, "antialias": 1, "exclude_outside": 1},
        18,
    ),
    ("Resize", (X, None, None, ints(2, 4, 5, 7)), {"mode": "linear", "antialias": 1, "exclude_outside": 1}, 18),
    ("Resize", (X, None, np.array([1, 1, 2, 2], np.float32)), {"mode": "linear"}, 13),
    (
        "Resize",
        (X, None, None, ints(2, 4, 20, 7)),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        17,
    ),
    (
        "Resize",
        (X, None, np.array([1, 1, 2, 3], np.float32)),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        17,
    ),
    ("ScatterElements", (FLAT, WHOLE % 5, kernel(2, 3)), {"axis": 1}, 17),
    ("ScatterElements", (FLAT, np.zeros((2, 3), np.int64), kernel(2, 3)), {"axis": 1, "reduction": "add"}, 17),
    ("ScatterND", (X, np.array([[0, 1], [1, -1]], np.int64), kernel(2, 9, 10)), {}, 17),
    ("ScatterND", (FLAT, np.array([[0], [0]], np.int64), kernel(2, 6)), {"reduction": "add"}, 17),
    ("Sign", (X,), {}, 17),
    ("Sin", (X,), {}, 17),
    ("Size", (X,), {}, 17),
    ("Slice", (X, ints(9), ints(0), ints(2), ints(-1)), {}, 17),
    ("Slice", (X, ints(-1, 7), ints(-(2**63), 1), ints(3, 2), ints(-3, -2)), {}, 17),
    ("Slice", (X, ints(0), ints(5), ints(2), ints(-1)), {}, 17),
    ("Softmax", (X,), {"flattened": 1}, 11),
    ("Softmax", (X,), {"axis": 2, "flattened": 1}, 9),
    ("Split", (X,), {"axis": 1, "part": 1, "parts": 2}, 13),
    ("Split", (X,), {"axis": -1, "part": 2, "parts": 3, "num_outputs": 3}, 18),
    ("Split", (X, ints(1, 3)), {"axis": 1, "part": 1, "parts": 2}, 17),
    ("Split", (X,), {"axis": 1, "split": [3, 1], "part": 0, "parts": 2}, 11),
    ("Sum", (X, POSITIVE, number(2)), {}, 17),
    ("Swish", (X,), {"alpha": 1.5}, 24),
    ("Tile", (FLAT, ints(2, 3)), {}, 17),
    ("Trilu", (X,), {}, 17),
    ("Trilu", (X, np.array(-1, np.int64)), {"upper": 0}, 17),
    ("Where", (TRUE, X, number(-1)), {}, 17),
    ("Xor", (TRUE, X > 0.5), {}, 17),
]
CASES += ATTENTION


def expected(op: str, inputs: tuple[Any, ...], attributes: dict[str, Any], opset: int, kind: Any) -> np.ndarray:
    names = ["" if value is None else f"i{index}" for index, value in enumerate(inputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if name}
    kinds = {name: (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in given.items()}
    # What the reader adds is no attribute of the operator.
    own = {key: value for key, value in attributes.items() if key not in ("part", "parts", "flattened")}
    outputs = ["code"]
    if op == "Split":
        outputs = ["code" if part == attributes["part"] else f"o{part}" for part in range(attributes["parts"])]
    if op == "ConstantOfShape" and own:
        own["value"] = helper.make_tensor("v", TensorProto.FLOAT, [1], [own["value"]])
    model = model_of([helper.make_node(op, names, outputs, **own)], {}, inputs=kinds, opset=opset)
    model.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
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
    tensors = [None if value is None else torch.from_numpy(np.array(value)) for value in inputs]
    found = OPERATORS[op](attributes, *tensors)
    wanted = expected(op, inputs, attributes, opset, found.numpy().dtype)
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
        ("GatherND", (X, ints(0)), {"batch_dims": 1}, "over batches"),
        ("GatherND", (X, np.zeros((1, 5), np.int64)), {}, "indices of 5 axes"),
        ("ScatterND", (X, ints(0), X[0]), {"reduction": "mul"}, "reduction mul"),
        ("ScatterElements", (FLAT, WHOLE % 2, FLAT), {"reduction": "max"}, "reduction max"),
        ("CumSum", (X, ints(1)), {"reverse": 1}, "runs backwards"),
        ("Resize", (X, ints(), np.array([1, 2, 2, 2], np.float32)), {"mode": "linear"}, "not supported"),
        ("Resize", (X, ints(), np.array([1, 1, 2, 2], np.float32)), {}, "nearest with half_pixel"),
        (
            "Resize",
            (X, ints(), np.array([1, 1, 2, 2], np.float32)),
            {"mode": "cubic", "cubic_coeff_a": -0.6},
            "coefficient",
        ),
        ("Resize", (X, ints(), np.array([1, 1, 1e9, 2], np.float32)), {"mode": "linear"}, "1 to 16384"),
        ("Split", (X, ints(1, 2)), {"axis": 1, "part": 0, "parts": 2}, "cannot be split"),
        ("Split", (X,), {"axis": 1, "part": 0, "parts": 10**12}, "1 to 4096"),
        ("Range", (number(0), number(1), number(0)), {}, "a range from"),
        ("Range", (ints(0), ints(2**60), ints(1)), {}, "a range from"),
        ("OneHot", (ints(0), ints(2**40), FLAT[0, :2]), {}, "a depth of"),
        ("Tile", (FLAT, ints(2**40, 2**40)), {}, "a tensor of the shape"),
        ("ConstantOfShape", (ints(-1, 4),), {}, "a tensor of the shape"),
        ("Einsum", (FLAT,) * 5, {"equation": "ij"}, "5 factors"),
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
    assert text.count("OPERATORS: dict") == 1
    assert all(text.count(f'\n    "{op}": ') == 1 for op in OPERATORS)
