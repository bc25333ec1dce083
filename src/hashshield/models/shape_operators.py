"""ONNX operators that rearrange values: shapes, indices, masks and sizes, as transformers use them.

Each takes its node's attributes and input tensors (None for an omitted input) and follows the ONNX operator
specification, opsets 9 to 28. Results that could be huge although their inputs are small are bounded here, or are views
of one value: in a rehearsal on torch's meta device, known sizes are real tensors and would take memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "Attributes",
    "Operator",
    "axes_of",
    "cast",
    "constant_of_shape",
    "cumulated",
    "einsum",
    "expand",
    "flatten",
    "gather",
    "gather_elements",
    "gather_nd",
    "ints",
    "one_hot",
    "reshape",
    "resize",
    "scatter_elements",
    "scatter_nd",
    "sequence",
    "shape_of",
    "slice_of",
    "split",
    "squeeze",
    "tile",
    "triangle",
    "unsqueeze",
    "where",
]

Attributes = dict[str, Any]
Operator = Callable[..., Tensor]
"""(attributes, *inputs) -> the first output; no supported operator needs another."""

_LONGEST_RANGE = 1 << 20
_LARGEST_SIDE = 1 << 14
"""Most pixels of a resized image's side."""
_MOST_PARTS = 4096
_LONGEST_EQUATION = 200
_MOST_FACTORS = 4

DTYPES = {
    **dict.fromkeys((1, 10, 11, 16), torch.float32),
    **dict.fromkeys((2, 3, 4, 5, 6), torch.int32),
    **dict.fromkeys((7, 12, 13), torch.int64),
    9: torch.bool,
}
"""ONNX data type -> torch dtype to compute in; all floats become float32."""


def ints(value: Tensor | Sequence[int]) -> list[int]:
    """Return integers given as an attribute (older opsets) or as an input tensor (newer ones)."""
    return [int(v) for v in (value.reshape(-1).tolist() if isinstance(value, Tensor) else value)]


def axes_of(a: Attributes, given: Tensor | None) -> list[int] | None:
    """Return the axes from the input, or else from the attribute; None if neither is given."""
    found = given if given is not None else a.get("axes")
    return None if found is None else ints(found)


def flatten(a: Attributes, x: Tensor) -> Tensor:
    """Flatten."""
    axis = a.get("axis", 1)
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.dim()]), -1)


def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """Reshape; a size of 0 keeps the input's size, unless `allowzero` is set."""
    wanted = ints(shape)
    if not a.get("allowzero"):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


def squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Squeeze; without axes, every axis of size 1."""
    found = axes_of(a, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Unsqueeze; axes count in the output."""
    found = axes_of(a, axes) or []
    for axis in sorted(axis % (x.dim() + len(found)) for axis in found):
        x = x.unsqueeze(axis)
    return x


def slice_of(
    a: Attributes, x: Tensor, starts: Tensor | None = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    """Slice; steps below 0 run backwards."""
    first, last = (ints(a[k] if v is None else v) for k, v in (("starts", starts), ("ends", ends)))
    over = axes_of(a, axes) or list(range(len(first)))
    strides = ints(steps) if steps is not None else [1] * len(first)
    for axis, start, end, stride in zip(over, first, last, strides, strict=True):
        size = x.shape[axis]
        begin, stop, step = slice(start, end, stride).indices(size)
        if step < 0:
            # Take the same positions in ascending order and flip them below.
            taken = range(begin, stop, step)
            begin, stop, step = (taken[-1], taken[0] + 1, -step) if taken else (0, 0, 1)
        index = [slice(None)] * x.dim()
        index[axis % x.dim()] = slice(begin, stop, step)
        x = x[tuple(index)]
        if stride < 0:
            x = x.flip(axis)
    return x


def split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Split: return part number `part` of `parts`, two attributes that the reader adds. Raises ValueError."""
    axis, part, parts = a.get("axis", 0) % x.dim(), a["part"], a["parts"]
    given = sizes if sizes is not None else a.get("split")
    whole = x.shape[axis]
    if not 1 <= parts <= _MOST_PARTS:
        raise ValueError(f"a split into {parts} parts; 1 to {_MOST_PARTS} are expected")
    lengths = ints(given) if given is not None else [-(-whole // parts)] * (parts - 1)
    if given is None:
        # Equal parts; the last one is smaller if the size is not divisible.
        lengths.append(whole - sum(lengths))
    if len(lengths) != parts or not 0 <= part < parts or min(lengths) < 0 or sum(lengths) != whole:
        raise ValueError(f"{whole} values cannot be split into parts of {lengths[:8]}")
    return x.narrow(axis, sum(lengths[:part]), lengths[part])


def gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """Gather; indices below 0 count from the end."""
    axis = a.get("axis", 0) % x.dim()
    found = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
    return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """GatherElements."""
    axis = a.get("axis", 0) % x.dim()
    return x.gather(axis, indices.long() % x.shape[axis])


def gather_nd(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """GatherND without batch dimensions. Raises ValueError if there are any."""
    if a.get("batch_dims", 0):
        raise ValueError("GatherND over batches is not supported")
    return x[_coordinates(x, indices)]


def scatter_nd(a: Attributes, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ScatterND, which sets or adds. Raises ValueError for another reduction."""
    how = a.get("reduction", "none")
    if how not in ("none", "add"):
        raise ValueError(f"ScatterND with the reduction {how} is not supported")
    return x.index_put(_coordinates(x, indices), updates, accumulate=how == "add")


def _coordinates(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    """Return one index tensor for each of the n leading axes of `x`, from (..., n) indices. Raises ValueError."""
    if not 1 <= indices.shape[-1] <= x.dim():
        raise ValueError(f"indices of {indices.shape[-1]} axes into a tensor of {x.dim()}")
    return tuple(index.long() % x.shape[axis] for axis, index in enumerate(indices.unbind(-1)))


def scatter_elements(a: Attributes, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ScatterElements, which sets or adds. Raises ValueError for another reduction."""
    axis, how = a.get("axis", 0) % x.dim(), a.get("reduction", "none")
    if how not in ("none", "add"):
        raise ValueError(f"ScatterElements with the reduction {how} is not supported")
    where_to = indices.long() % x.shape[axis]
    return x.scatter_add(axis, where_to, updates) if how == "add" else x.scatter(axis, where_to, updates)


def one_hot(a: Attributes, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """OneHot; an index outside the depth gives all off values. Raises ValueError for a depth out of range."""
    (number,) = ints(depth)
    off, on = values.unbind(0)
    counted = torch.arange(number, device=indices.device) if 0 < number <= _LONGEST_RANGE else None
    if counted is None:
        raise ValueError(f"OneHot of a depth of {number}; 1 to {_LONGEST_RANGE} are expected")
    wrapped = torch.where(indices < 0, indices + number, indices)
    return torch.where(wrapped[..., None] == counted, on, off).movedim(-1, a.get("axis", -1))


def cast(a: Attributes, x: Tensor, like: Tensor | None = None) -> Tensor:
    """Cast and CastLike."""
    return x.to(DTYPES[a["to"]] if like is None else like.dtype)


def shape_of(a: Attributes, x: Tensor) -> Tensor:
    """Shape, of all axes or of the range `start` to `end`."""
    return torch.tensor(x.shape[a.get("start", 0) : a.get("end")], device=x.device, dtype=torch.int64)


def constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    """ConstantOfShape, as a view of one value, so that any size takes no memory."""
    value = torch.tensor(a.get("value", 0.0), dtype=DTYPES[a.get("type", 1)], device=shape.device)
    return value.expand(_sizes(shape))


def expand(_a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """Expand, broadcasting in both directions: a size of 1 in `shape` keeps the input's."""
    wanted = _sizes(shape)
    wanted = [1] * (x.dim() - len(wanted)) + wanted
    own = [1] * (len(wanted) - x.dim()) + list(x.shape)
    return x.expand([size if other == 1 else other for size, other in zip(own, wanted, strict=True)])


def tile(_a: Attributes, x: Tensor, repeats: Tensor) -> Tensor:
    """Tile."""
    return x.repeat(_sizes(repeats))


def _sizes(shape: Tensor) -> list[int]:
    """Return the sizes in `shape`. Raises ValueError if one is negative or they multiply to more than 2^40."""
    found = ints(shape)
    if min(found, default=0) < 0 or math.prod(found) > 1 << 40:
        raise ValueError(f"a tensor of the shape {found[:8]}")
    return found


def sequence(_a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Range. Raises ValueError for a step of 0 or more than 2^20 numbers."""
    first, last, step = (value.reshape(()).item() for value in (start, limit, delta))
    if not step or not math.isfinite(length := (last - first) / step) or length > _LONGEST_RANGE:
        raise ValueError(f"a range from {first} to {last} by {step}; at most {_LONGEST_RANGE} numbers are made")
    return first + step * torch.arange(max(math.ceil(length), 0), device=start.device, dtype=start.dtype)


def where(_a: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where."""
    return torch.where(condition.bool(), x, y)


def triangle(a: Attributes, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    """Trilu: the upper or the lower triangle of the last two axes."""
    offset = 0 if diagonal is None else int(diagonal.reshape(()).item())
    return x.triu(offset) if a.get("upper", 1) else x.tril(offset)


def cumulated(a: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    """CumSum, forward and inclusive. Raises ValueError for the exclusive and reverse kinds."""
    if a.get("exclusive") or a.get("reverse"):
        raise ValueError("a cumulative sum that is exclusive or runs backwards is not supported")
    return x.cumsum(int(axis.reshape(()).item())).to(x.dtype)


def einsum(a: Attributes, *factors: Tensor) -> Tensor:
    """Einsum. Raises ValueError for more than 4 factors or an equation of more than 200 characters."""
    equation = a["equation"]
    if len(factors) > _MOST_FACTORS or len(equation) > _LONGEST_EQUATION:
        raise ValueError(f"an Einsum of {len(factors)} factors, in {len(equation)} characters")
    found: Tensor = torch.einsum(equation, *factors)
    return found


_MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}


def resize(
    a: Attributes, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Resize the last two of four axes, in the modes that torch supports. Raises ValueError for others."""
    mode, where_to = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
    smooth, antialias = mode != "nearest", bool(a.get("antialias", 0))
    if x.dim() != 4 or mode not in _MODES or bool(a.get("exclude_outside", 0)) != antialias or a.get("axes"):
        raise ValueError(f"a Resize of kind {mode} of {x.dim()} axes is not supported")
    if a.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("a Resize that keeps the aspect is not supported")
    # torch's bicubic coefficient is -0.75; with antialiasing it is Pillow's, -0.5.
    if mode == "cubic" and abs(a.get("cubic_coeff_a", -0.75) - (-0.5 if antialias else -0.75)) > 1e-6:
        raise ValueError(f"a cubic Resize with the coefficient {a.get('cubic_coeff_a', -0.75)} is not supported")
    if smooth and where_to in ("half_pixel", "pytorch_half_pixel"):
        chosen: dict[str, Any] = {"mode": _MODES[mode], "align_corners": False, "antialias": antialias}
    elif smooth and where_to == "align_corners":
        chosen = {"mode": _MODES[mode], "align_corners": True}
    elif not smooth and where_to == "asymmetric" and a.get("nearest_mode", "round_prefer_floor") == "floor":
        chosen = {"mode": "nearest"}
    else:
        raise ValueError(f"a Resize of kind {mode} with {where_to} is not supported")
    if sizes is not None and sizes.numel():
        goal = _resized_to(x, [size / side for size, side in zip(ints(sizes), x.shape, strict=True)])
        found: Tensor = functional.interpolate(x, size=goal, **chosen)
        return found
    factors = [float(v) for v in scales.tolist()] if scales is not None else []
    _resized_to(x, factors)
    enlarged: Tensor = functional.interpolate(x, scale_factor=factors[2:], recompute_scale_factor=False, **chosen)
    return enlarged


def _resized_to(x: Tensor, factors: Sequence[float]) -> list[int]:
    if len(factors) != 4 or factors[:2] != [1, 1] or not all(map(math.isfinite, factors)):
        raise ValueError(f"a Resize by {list(factors)[:8]} is not supported")
    goal = [math.floor(side * factor + 1e-6) for side, factor in zip(x.shape[2:], factors[2:], strict=True)]
    if not 1 <= min(goal) <= max(goal) <= _LARGEST_SIDE:
        raise ValueError(f"a Resize to {goal} pixels; 1 to {_LARGEST_SIDE} are expected")
    return goal
