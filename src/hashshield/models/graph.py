"""A foreign network as data: a list of supported operators and tensors, run by torch. A file contains no code.

`rehearse` measures memory and time before a network is run: on torch's meta device tensors have shapes but no values,
and torch itself reports what each operator would allocate. Only small tensors, which sizes are computed from, have
values. Everything that does not depend on the image is computed once, at import (`models.onnx_reader`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hashshield.models.operators import OPERATORS

__all__ = [
    "GRAPH_ARCH",
    "MAX_WIDTH",
    "Graph",
    "GraphTrunk",
    "Node",
    "Rehearsal",
    "graph_tensors",
    "last_reads",
    "output_width",
    "read_graph",
    "rehearse",
]


GRAPH_ARCH = "graph"
"""The architecture name in the card of a network stored as a graph."""
MOST_NODES = 5_000
_PROGRAM, _CONSTANT = "graph", "trunk."
_LONGEST_PROGRAM = 4 << 20
"""Most bytes of the JSON text; 5,000 operators of about a hundred bytes stay far below."""


class Node(NamedTuple):
    """One operator with the names of its tensors."""

    op: str
    inputs: tuple[str, ...]
    """An empty name is an omitted optional input."""
    output: str
    attributes: dict[str, Any]


class Graph(NamedTuple):
    """A network: nodes in execution order, and constant tensors by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    input: str
    output: str
    one_by_one: bool
    """True if exported for a batch of one: larger batches run image by image, because a reshape may hold the size."""

    def fault(self, most: int = MOST_NODES) -> str | None:
        """Return why the graph cannot run, or None; it may have at most `most` operators."""
        if not 0 < len(self.nodes) <= most:
            return f"a network of {len(self.nodes)} operators; 1 to {most} are read"
        known = {self.input, "", *self.constants}
        for node in self.nodes:
            if node.op not in OPERATORS:
                return f"the operator {node.op} is not among the {len(OPERATORS)} known here"
            missing = [name for name in node.inputs if name not in known]
            if missing:
                return f"{node.op} reads {missing[0]!r}, which nothing before it gives"
            known.add(node.output)
        return None if self.output in known else f"nothing gives the output {self.output!r}"


class GraphTrunk(nn.Module):
    """Run a graph: (N, 3, H, W) normalised images -> (N, D) features."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.nodes, self.input, self.output = graph.nodes, graph.input, graph.output
        self.one_by_one = graph.one_by_one
        self._keys = {name: f"constant{index}" for index, name in enumerate(graph.constants)}
        for name, key in self._keys.items():
            self.register_buffer(key, graph.constants[name])
        self._done_after = last_reads(graph)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, D) features of (N, 3, H, W) images. Raises ValueError or RuntimeError if shapes do not fit."""
        if self.one_by_one and len(images) > 1:
            return torch.cat([self._run(image[None]) for image in images])
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        values: dict[str, Tensor | None] = {name: self.get_buffer(key) for name, key in self._keys.items()}
        values |= {self.input: images, "": None}
        for node, done in zip(self.nodes, self._done_after, strict=True):
            values[node.output] = OPERATORS[node.op](node.attributes, *(values[name] for name in node.inputs))
            for name in done:
                # Free tensors that no later node reads.
                values[name] = None
        found = values[self.output]
        if found is None or found.shape[:1] != images.shape[:1]:
            raise ValueError(f"{len(images)} images gave an output of shape {None if found is None else found.shape}")
        return found.flatten(1)


def last_reads(graph: Graph) -> list[tuple[str, ...]]:
    """Return, for each node, the tensors that no later node reads, including its own output if nothing reads it."""
    done: list[list[str]] = [[] for _ in graph.nodes]
    read = {"", graph.output}
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        for name in dict.fromkeys((*node.inputs, node.output)):
            if name not in read:
                read.add(name)
                done[index].append(name)
    return [tuple(names) for names in done]


def graph_tensors(graph: Graph) -> dict[str, Tensor]:
    """Return the graph as tensors for a checkpoint: its constants, and its nodes as the bytes of a JSON text."""
    names = {name: str(index) for index, name in enumerate(graph.constants)}
    program = {
        "input": graph.input,
        "output": graph.output,
        "one_by_one": graph.one_by_one,
        "constants": list(names),
        "nodes": [node._asdict() for node in graph.nodes],
    }
    text = json.dumps(program, separators=(",", ":")).encode()
    constants = {f"{_CONSTANT}{names[name]}": tensor for name, tensor in graph.constants.items()}
    return {_PROGRAM: torch.frombuffer(bytearray(text), dtype=torch.uint8), **constants}


def read_graph(weights: Mapping[str, Tensor]) -> Graph:
    """Return the graph that `graph_tensors` stored. Raises ValueError naming what is wrong."""
    try:
        program = weights[_PROGRAM]
        if program.numel() > _LONGEST_PROGRAM:
            raise ValueError(f"its graph is a text of {program.numel()} bytes; up to {_LONGEST_PROGRAM} are read")
        raw = json.loads(program.to(torch.uint8).numpy().tobytes())
        graph = Graph(
            nodes=tuple(_node(entry) for entry in raw["nodes"]),
            constants={str(name): weights[f"{_CONSTANT}{index}"] for index, name in enumerate(raw["constants"])},
            input=str(raw["input"]),
            output=str(raw["output"]),
            one_by_one=bool(raw["one_by_one"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its graph cannot be read ({type(error).__name__}: {error})") from error
    if fault := graph.fault():
        raise ValueError(fault)
    return graph


def _node(entry: dict[str, Any]) -> Node:
    attributes = {str(key): value for key, value in entry["attributes"].items()}
    for key, value in attributes.items():
        if not all(isinstance(v, (int, float, str)) for v in _listed(value)):
            raise ValueError(f"the attribute {key} of {entry['op']} is neither numbers nor a word")
    return Node(str(entry["op"]), tuple(map(str, entry["inputs"])), str(entry["output"]), attributes)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


MAX_WIDTH = 65_536
"""Most values of a network's output."""
_MAX_BYTES = 128 << 20
"""Most bytes of activations held at once, per image; VGG-19 at 224 pixels holds 40 MB."""
_MAX_WORK = 50_000_000_000
"""Most multiplications per image; VGG-19 at 224 pixels has 20 billion."""
_WORK_OF_AN_ELEMENT = 16
"""Multiplications of a convolution that take as long as one element of an elementwise operator."""
_SMALL = 4096
"""Most elements of a tensor whose values are tracked in a rehearsal."""

_MOST_KNOWN = 4 << 20
"""Most elements of all values in `Rehearsal.known` together."""

_SIZES: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    **dict.fromkeys((op for op in OPERATORS if op.startswith("Reduce")), (1,)),
}
"""Operator -> indices of the inputs whose values decide the shape of its result."""
_FROM_SHAPES = ("Shape", "Size")


class Rehearsal(NamedTuple):
    """The measurements of a run on the meta device."""

    output: Tensor | None
    """The network's output, without values."""
    known: dict[str, Tensor]
    """Name -> value of small results that depend only on the input's size."""
    work: tuple[int, ...]
    """Multiplications of each node; other work is converted to multiplications."""
    elements: tuple[int, ...]
    """Number of values in each node's result."""


def output_width(graph: Graph, *, side: int) -> int:
    """Return the number of values that a network outputs per image of `side` pixels.

    Raises ValueError if it cannot run, or needs more memory or time than a hash network may.
    """
    images = 1 if graph.one_by_one else 2
    found = rehearse(graph, images=images, side=side).output
    if found is None or found.dim() == 0 or found.shape[0] != images:
        raise ValueError(f"{images} images gave an output of shape {None if found is None else tuple(found.shape)}")
    width = math.prod(found.shape[1:])
    if not 1 <= width <= MAX_WIDTH or not found.is_floating_point():
        raise ValueError(
            f"its output has {width} values of {found.dtype}; a hash network has 1 to {MAX_WIDTH} floats: for one that "
            "answers with tokens, pooling in the card makes one vector of them"
        )
    return width


def rehearse(graph: Graph, *, images: int, side: int) -> Rehearsal:
    """Run a network for that many images of `side` pixels without values. Raises ValueError as `output_width` does."""
    try:
        return _MetaRun(graph, images).run(side)
    except NotImplementedError as error:
        raise ValueError("a size in it depends on what is in the picture") from error
    # Operators raise different errors for inputs that they cannot take.
    except (RuntimeError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error


class _MetaRun:
    """A run on the meta device. A value is a meta tensor, or a small real tensor if it is known."""

    def __init__(self, graph: Graph, images: int) -> None:
        self._graph, self._images = graph, images
        self._values: dict[str, Tensor | None] = {}
        self._held = 0
        self._work = 0
        self._known_values: dict[str, Tensor] = {}
        self._known_elements = 0

    @torch.no_grad()
    def run(self, side: int) -> Rehearsal:
        graph, works, elements = self._graph, [], []
        for name, constant in graph.constants.items():
            self._values[name] = constant if constant.numel() <= _SMALL else constant.to("meta")
        self._values[""] = None
        self._put(graph.input, torch.empty((self._images, 3, side, side), device="meta"))
        for node, done in zip(graph.nodes, last_reads(graph), strict=True):
            with _Meter() as meter:
                found = self._apply(node)
            self._check(node, meter)
            works.append(meter.work)
            elements.append(found.numel())
            if self._is_small(node, found):
                found = self._known(node)
                self._note(node.output, found)
            self._put(node.output, found if found.numel() <= _SMALL else found.to("meta"))
            for name in done:
                self._release(name)
        return Rehearsal(self._values[graph.output], self._known_values, tuple(works), tuple(elements))

    def _check(self, node: Node, meter: _Meter) -> None:
        """Raise ValueError if after this node the network exceeds the memory or work of a hash network."""
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

    def _note(self, name: str, value: Tensor) -> None:
        self._known_elements += value.numel()
        if self._known_elements <= _MOST_KNOWN:
            self._known_values[name] = value

    def _apply(self, node: Node) -> Tensor:
        """Run an operator without values, except for inputs that decide its result's shape."""
        inputs = [self._values[name] for name in node.inputs]
        sizes = _SIZES.get(node.op, ())
        shapes = (x if x is None or index in sizes else x.to("meta") for index, x in enumerate(inputs))
        return OPERATORS[node.op](node.attributes, *shapes)

    def _is_small(self, node: Node, found: Tensor) -> bool:
        """Return whether a result is small and its values are known: computed from known values or from a shape."""
        inputs = [self._values[name] for name in node.inputs]
        known = node.op in _FROM_SHAPES or all(x is None or not x.is_meta for x in inputs)
        return known and found.numel() <= _SMALL

    def _known(self, node: Node) -> Tensor:
        inputs = [self._values[name] for name in node.inputs]
        # An expanded zero stands in for a meta tensor: it has the shape and takes no memory.
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
    """Count the bytes that torch's operators allocate, and their multiplications."""

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
            # torch convolves small images through a copy of every window.
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
"""torch operator -> multiplications per element of its result."""


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _counted(number: int) -> str:
    return f"{number:,}" if number < 1e15 else f"{float(number):.1e}"
