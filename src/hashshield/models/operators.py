"""ONNX operators in torch, as far as convolutional networks and transformers use them.

Each takes its node's attributes and input tensors (None for an omitted input) and follows the ONNX operator
specification, opsets 9 to 28. Importing a network with an operator that is not in `OPERATORS` fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hashshield.models import shape_operators as shapes

__all__ = ["OPERATORS"]

_FARTHEST = 1 << 20
"""Most pixels of a stride, window or border: beyond it torch's 64-bit sizes could overflow without an error."""


def _steps(a: shapes.Attributes, key: str) -> Sequence[int]:
    """Return strides, dilations or window sides as (vertical, horizontal). Raises ValueError if out of range."""
    steps: Sequence[int] = a.get(key, [1, 1])
    if len(steps) != 2 or not 1 <= min(steps) <= max(steps) <= _FARTHEST:
        raise ValueError(f"{key} of {list(steps)}; two of 1 to {_FARTHEST} are expected")
    return steps


def _borders(widths: Sequence[int]) -> Sequence[int]:
    """Return border widths, negative for cropping. Raises ValueError if out of range."""
    if max(map(abs, widths), default=0) > _FARTHEST:
        raise ValueError(f"a border of {max(widths, key=abs)}; at most {_FARTHEST} are expected")
    return widths


def _edges(a: shapes.Attributes, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """Return the zero padding of the image as [left, right, top, bottom]."""
    strides, dilations = _steps(a, "strides"), _steps(a, "dilations")
    mode = a.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        top, left, bottom, right = _borders(a.get("pads", [0, 0, 0, 0]))
        return [left, right, top, bottom]
    edges = []
    for axis in (1, 0):
        size, reach = x.shape[2 + axis], (kernel[axis] - 1) * dilations[axis] + 1
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0) if mode != "VALID" else 0
        near = total // 2 if mode != "SAME_LOWER" else total - total // 2
        edges += [near, total - near]
    return edges


def _conv(a: shapes.Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    left, right, top, bottom = _edges(a, x, weight.shape[2:])
    # Leave symmetric padding to the convolution: a padded copy of a large image costs as much as a layer.
    inside = (top, left) if (left, top) == (right, bottom) else (0, 0)
    if inside == (0, 0):
        x = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(
        x, weight, bias, a.get("strides", 1), inside, a.get("dilations", 1), groups=a.get("group", 1)
    )


def _padded_for_pool(a: shapes.Attributes, x: Tensor, value: float) -> Tensor:
    kernel, strides, dilations = (_steps(a, key) for key in ("kernel_shape", "strides", "dilations"))
    left, right, top, bottom = _edges(a, x, kernel)
    if a.get("ceil_mode"):
        # Pad more for a last, partial window, unless it would begin in the padding.
        more = []
        for axis, before, after in ((3, left, right), (2, top, bottom)):
            size, reach = (
                x.shape[axis] + before + after,
                (kernel[axis - 2] - 1) * dilations[axis - 2] + 1,
            )
            windows = math.ceil((size - reach) / strides[axis - 2]) + 1
            windows -= (windows - 1) * strides[axis - 2] >= x.shape[axis] + before
            more.append(max((windows - 1) * strides[axis - 2] + reach - size, 0))
        right, bottom = right + more[0], bottom + more[1]
    return functional.pad(x, (left, right, top, bottom), value=value)


def _max_pool(a: shapes.Attributes, x: Tensor) -> Tensor:
    padded = _padded_for_pool(a, x, -math.inf)
    return functional.max_pool2d(padded, a["kernel_shape"], a.get("strides", 1), 0, a.get("dilations", 1))


def _average_pool(a: shapes.Attributes, x: Tensor) -> Tensor:
    if max(a.get("dilations", [1])) > 1:
        raise ValueError("an average over dilated windows is not supported")
    strides = a.get("strides", 1)
    ones = torch.ones_like(x[:1, :1])
    if a.get("count_include_pad"):
        ones = functional.pad(ones, _edges(a, x, a["kernel_shape"]), value=1.0)
        beyond = {**a, "pads": [0, 0, 0, 0], "auto_pad": "NOTSET"}
        padded = _padded_for_pool(beyond, functional.pad(x, _edges(a, x, a["kernel_shape"])), 0.0)
        counted = _padded_for_pool(beyond, ones, 0.0)
    else:
        padded, counted = _padded_for_pool(a, x, 0.0), _padded_for_pool(a, ones, 0.0)
    return functional.avg_pool2d(padded, a["kernel_shape"], strides) / functional.avg_pool2d(
        counted, a["kernel_shape"], strides
    )


def _batch_norm(a: shapes.Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=a.get("epsilon", 1e-5))


def _layer_norm(a: shapes.Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.dim()
    return functional.layer_norm(x, x.shape[axis:], scale, bias, eps=a.get("epsilon", 1e-5))


def _clip(a: shapes.Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least, most = (a.get(k) if v is None else float(v) for k, v in (("min", low), ("max", high)))
    return x if least is None and most is None else x.clamp(least, most)


def _prelu(_a: shapes.Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _gelu(a: shapes.Attributes, x: Tensor) -> Tensor:
    found: Tensor = functional.gelu(x, approximate=a.get("approximate", "none"))
    return found


def _hard_sigmoid(a: shapes.Attributes, x: Tensor) -> Tensor:
    alpha, beta = float(a.get("alpha", 0.2)), float(a.get("beta", 0.5))
    return (alpha * x + beta).clamp(0, 1)


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    if y.dim() != 2 or x.dim() < 3:
        return torch.matmul(x, y)
    # Flatten the leading axes into one product: torch computes one per leading axis if rows are not contiguous.
    return (x.reshape(-1, x.shape[-1]) @ y).reshape(*x.shape[:-1], y.shape[1])


def _gemm(a: shapes.Attributes, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    left, right = (x.T if a.get("transA") else x), (y.T if a.get("transB") else y)
    out: Tensor = a.get("alpha", 1.0) * (left @ right)
    return out if bias is None else out + a.get("beta", 1.0) * bias


def _pad(
    a: shapes.Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Any = None
) -> Tensor:
    widths = _borders(shapes.ints(a["pads"] if pads is None else pads))
    over = [axis % x.dim() for axis in shapes.ints(axes)] if axes is not None else list(range(x.dim()))
    around = dict(zip(over, zip(widths[: len(over)], widths[len(over) :], strict=True), strict=True))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[a.get("mode", "constant")]
    # torch's padding starts at the last axis; only zero padding works on more than the image's two axes.
    edges = [edge for axis in reversed(range(x.dim())) for edge in around.get(axis, (0, 0))]
    if mode == "constant":
        return functional.pad(x, edges, value=float(a.get("value", 0.0) if value is None else value))
    if any(edges[4:]):
        raise ValueError(f"padding of kind {mode} is for the two last axes only")
    return functional.pad(x, edges[:4], mode=mode)


def _reduced(how: Callable[..., Tensor]) -> shapes.Operator:
    def operator(a: shapes.Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = shapes.axes_of(a, axes)
        if found is None and a.get("noop_with_empty_axes"):
            return x
        return how(x, dim=found or list(range(x.dim())), keepdim=bool(a.get("keepdims", 1)))

    return operator


def _norm(x: Tensor, *, dim: list[int], keepdim: bool, order: float = 2) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, order, dim=dim, keepdim=keepdim)
    return found


def _lp_normalised(a: shapes.Attributes, x: Tensor) -> Tensor:
    return x / _norm(x, dim=[a.get("axis", -1)], keepdim=True, order=a.get("p", 2))


def _softmax(a: shapes.Attributes, x: Tensor) -> Tensor:
    if not a.get("flattened"):
        return x.softmax(a.get("axis", -1))
    # Before opset 13 Softmax ran over all axes from `axis` on; the reader marks that as `flattened`.
    rows = math.prod(x.shape[: a.get("axis", 1) % x.dim()])
    return x.reshape(rows, -1).softmax(-1).reshape(x.shape)


def _group_norm(a: shapes.Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = a["num_groups"]
    if len(scale) != x.shape[1]:
        # Opset 18 has one value per group.
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, eps=a.get("epsilon", 1e-5))


def _instance_norm(a: shapes.Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=a.get("epsilon", 1e-5))


def _rms_norm(a: shapes.Attributes, x: Tensor, scale: Tensor) -> Tensor:
    axis = a.get("axis", -1) % x.dim()
    return functional.rms_norm(x, x.shape[axis:], scale, eps=a.get("epsilon", 1e-5))


def _power(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


def _remainder(a: shapes.Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if a.get("fmod") else torch.remainder(x, y)


def _sum_of_squares(x: Tensor, *, dim: list[int], keepdim: bool) -> Tensor:
    return x.square().sum(dim=dim, keepdim=keepdim)


def _product(x: Tensor, *, dim: list[int], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in dim), reverse=True):
        x = x.prod(axis, keepdim=keepdim).to(x.dtype)
    return x


def _concat(a: shapes.Attributes, *parts: Tensor) -> Tensor:
    return torch.cat(parts, a["axis"])


def _transpose(a: shapes.Attributes, x: Tensor) -> Tensor:
    return x.permute(a.get("perm", list(reversed(range(x.dim())))))


def _plain(how: Callable[..., Tensor]) -> shapes.Operator:
    return lambda _a, *inputs: how(*inputs)


def _divided(x: Tensor, y: Tensor) -> Tensor:
    # Integer division rounds towards zero.
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _same(x: Tensor, *_others: Tensor | None) -> Tensor:
    return x


OPERATORS: dict[str, shapes.Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": shapes.cast,
    "CastLike": shapes.cast,
    "Ceil": _plain(torch.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": shapes.constant_of_shape,
    "Conv": _conv,
    "Cos": _plain(torch.cos),
    "CumSum": shapes.cumulated,
    "Div": _plain(_divided),
    "Dropout": _plain(_same),
    "Einsum": shapes.einsum,
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Floor": _plain(torch.floor),
    "Gather": shapes.gather,
    "GatherElements": shapes.gather_elements,
    "GatherND": shapes.gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _a, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda _a, x: x.amax(tuple(range(2, x.dim())), keepdim=True),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(_same),
    "InstanceNormalization": _instance_norm,
    "IsNaN": _plain(torch.isnan),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LpNormalization": _lp_normalised,
    "MatMul": _plain(_matmul),
    "Max": lambda _a, *parts: reduce(torch.maximum, parts),
    "MaxPool": _max_pool,
    "Min": lambda _a, *parts: reduce(torch.minimum, parts),
    "Mod": _remainder,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "OneHot": shapes.one_hot,
    "Or": _plain(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _plain(_power),
    "RMSNormalization": _rms_norm,
    "Range": shapes.sequence,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceL2": _reduced(_norm),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(_sum_of_squares),
    "Relu": _plain(torch.relu),
    "Reshape": shapes.reshape,
    "Resize": shapes.resize,
    "ScatterElements": shapes.scatter_elements,
    "ScatterND": shapes.scatter_nd,
    "Shape": shapes.shape_of,
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Sin": _plain(torch.sin),
    "Size": lambda _a, x: torch.tensor(x.numel(), device=x.device),
    "Slice": shapes.slice_of,
    "Softmax": _softmax,
    "Softplus": _plain(functional.softplus),
    "Split": shapes.split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": shapes.squeeze,
    "Sub": _plain(torch.sub),
    "Sum": lambda _a, *parts: reduce(torch.add, parts),
    "Swish": lambda a, x: x * torch.sigmoid(a.get("alpha", 1.0) * x),
    "Tanh": _plain(torch.tanh),
    "Tile": shapes.tile,
    "Transpose": _transpose,
    "Trilu": shapes.triangle,
    "Unsqueeze": shapes.unsqueeze,
    "Where": shapes.where,
    "Xor": _plain(torch.logical_xor),
}
