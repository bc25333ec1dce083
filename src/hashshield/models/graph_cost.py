"""What running a foreign network would take, worked out from shapes and types alone: nothing of its size is allocated.

The graph runs on torch's meta device, where tensors have shapes and no values, so torch itself says what each operator
allocates inside. Only the small whole numbers that sizes are computed from have values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hashshield.models.graph import Graph, Node, last_reads
from hashshield.models.operators import OPERATORS

__all__ = ["MAX_WIDTH", "output_width"]

MAX_WIDTH = 65_536
"""Values of a network's output."""
_MAX_BYTES = 128 << 20
"""Of activations that are held at once, per image; VGG-19 at 224 pixels holds 40 MB."""
_MAX_WORK = 50_000_000_000
"""Multiplications per image; VGG-19 at 224 pixels has 20 billion."""
_WORK_OF_AN_ELEMENT = 16
"""Multiplications in a convolution take about as long as one element of a plain operator does."""
_SMALL = 4096
"""Elements of a tensor whose values are known beforehand."""

_SIZES: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum"), (1,)),
}
"""Operator -> inputs whose values decide what comes out, and not only its values."""


def output_width(graph: Graph, *, side: int) -> int:
    """Return how many values a network gives for each image of `side` pixels.

    Raises ValueError when it cannot run, or would take more memory or time than a hash network does.
    """
    images = 1 if graph.one_by_one else 2
    try:
        found = _Rehearsal(graph, images).run(side)
    except NotImplementedError as error:
        raise ValueError("a size in it depends on what is in the picture") from error
    # Operators that get what they cannot take say so in their own ways.
    except (RuntimeError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
    if found is None or found.dim() == 0 or found.shape[0] != images:
        raise ValueError(f"{images} images gave an output of shape {None if found is None else tuple(found.shape)}")
    width = math.prod(found.shape[1:])
    if not 1 <= width <= MAX_WIDTH or not found.is_floating_point():
        raise ValueError(f"its output has {width} values of {found.dtype}; a hash network has 1 to {MAX_WIDTH} floats")
    return width


class _Rehearsal:
    """A run on the meta device. A value is a meta tensor, or a small tensor in memory where it can be known."""

    def __init__(self, graph: Graph, images: int) -> None:
        self._graph, self._images = graph, images
        self._values: dict[str, Tensor | None] = {}
        self._held = 0
        self._work = 0

    @torch.no_grad()
    def run(self, side: int) -> Tensor | None:
        graph = self._graph
        for name, constant in graph.constants.items():
            self._values[name] = constant if constant.numel() <= _SMALL else constant.to("meta")
        self._values[""] = None
        self._put(graph.input, torch.empty((self._images, 3, side, side), device="meta"))
        for node, done in zip(graph.nodes, last_reads(graph), strict=True):
            with _Meter() as meter:
                found = self._apply(node)
            peak, self._work = self._held + meter.bytes, self._work + meter.work
            if peak > _MAX_BYTES * self._images:
                raise ValueError(
                    f"{node.op} makes it hold {_counted(peak // self._images)} bytes for each image, more than the "
                    f"{_counted(_MAX_BYTES)} a hash network may"
                )
            if self._work > _MAX_WORK * self._images:
                raise ValueError(
                    f"at {node.op} it has taken more than the {_counted(_MAX_WORK)} multiplications for each image "
                    "that a hash network may"
                )
            self._put(node.output, self._known(node) if self._is_small(node, found) else found)
            for name in done:
                self._release(name)
        return self._values[graph.output]

    def _apply(self, node: Node) -> Tensor:
        """Run an operator without values, but for those that decide about shapes."""
        inputs = [self._values[name] for name in node.inputs]
        sizes = _SIZES.get(node.op, ())
        shapes = (x if x is None or index in sizes else x.to("meta") for index, x in enumerate(inputs))
        return OPERATORS[node.op](node.attributes, *shapes)

    def _is_small(self, node: Node, found: Tensor) -> bool:
        """Tell whether the values of a result can be known: they come from known ones, or from a shape."""
        inputs = [self._values[name] for name in node.inputs]
        known = node.op == "Shape" or all(x is None or not x.is_meta for x in inputs)
        return known and found.numel() <= _SMALL

    def _known(self, node: Node) -> Tensor:
        inputs = [self._values[name] for name in node.inputs]
        # One value seen in many places has the shape of what only has a shape.
        held = (torch.zeros((), dtype=x.dtype).expand(x.shape) if x is not None and x.is_meta else x for x in inputs)
        return OPERATORS[node.op](node.attributes, *held)

    def _put(self, name: str, value: Tensor) -> None:
        self._release(name)
        self._values[name] = value
        self._held += _bytes(value)

    def _release(self, name: str) -> None:
        held = self._values.get(name)
        if held is not None and name not in self._graph.constants and name != self._graph.output:
            self._held -= _bytes(held)
            self._values[name] = None


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what torch's own operators allocate and multiply."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.work = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        made = [x for x in (found if isinstance(found, (tuple, list)) else (found,)) if isinstance(x, Tensor)]
        if not any(each.alias_info for each in func._schema.returns):
            self.bytes += sum(map(_bytes, made))
        read = [x for x in args if isinstance(x, Tensor)]
        self.work += _WORK_OF_AN_ELEMENT * sum(x.numel() for x in (*read, *made))
        multiplied = _MULTIPLIED.get(func.overloadpacket.__name__)
        if multiplied is not None and made:
            self.work += made[0].numel() * multiplied(args)
            # Small pictures are convolved through a copy of every window.
            if func.overloadpacket.__name__ == "convolution" and args[0].numel() <= _UNFOLDED:
                self.bytes += _bytes(made[0]) * multiplied(args) // max(args[1].shape[0], 1)
        return found


_UNFOLDED = 20_480 * 2
_MULTIPLIED: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "convolution": lambda args: math.prod(args[1].shape[1:]),
    "mm": lambda args: args[0].shape[-1],
    "bmm": lambda args: args[0].shape[-1],
    "mv": lambda args: args[0].shape[-1],
    "dot": lambda args: args[0].shape[-1],
    "max_pool2d_with_indices": lambda args: math.prod(args[1]),
    "avg_pool2d": lambda args: math.prod(args[1]),
}
"""torch's operator -> multiplications for each element of its result."""


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _counted(number: int) -> str:
    return f"{number:,}" if number < 1e15 else f"{float(number):.1e}"
