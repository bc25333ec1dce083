"""A foreign network as data: a list of known operators and tensors, run by torch. Nothing in a file is code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hashshield.models.operators import OPERATORS

__all__ = ["GRAPH_ARCH", "Graph", "GraphTrunk", "Node", "graph_tensors", "last_reads", "read_graph"]

GRAPH_ARCH = "graph"
"""The architecture a card names when its network is stored this way."""
MOST_NODES = 5_000
_PROGRAM, _CONSTANT = "graph", "trunk."
_LONGEST_PROGRAM = 4 << 20
"""Bytes of the text; 5,000 operators of some hundred bytes each stay far below."""


class Node(NamedTuple):
    """One operator at work; names stand for tensors."""

    op: str
    inputs: tuple[str, ...]
    """An empty name stands for an input that is left out."""
    output: str
    attributes: dict[str, Any]


class Graph(NamedTuple):
    """A network: nodes in the order they run, and the tensors they know beforehand."""

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    input: str
    output: str
    one_by_one: bool
    """Made for a batch of one image: larger ones run image by image, as a reshape may hold the number."""

    def fault(self) -> str | None:
        """What keeps it from running, in words; None when nothing does."""
        if not 0 < len(self.nodes) <= MOST_NODES:
            return f"a network of {len(self.nodes)} operators; 1 to {MOST_NODES} are read"
        known = {self.input, "", *self.constants}
        for node in self.nodes:
            if node.op not in OPERATORS:
                return (
                    f"the operator {node.op} is not among the {len(OPERATORS)} known here, those of convolutional nets"
                )
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
        """(N, 3, H, W) -> (N, D); raises ValueError or RuntimeError where operators and shapes disagree."""
        if self.one_by_one and len(images) > 1:
            return torch.cat([self._run(image[None]) for image in images])
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        values: dict[str, Tensor | None] = {name: self.get_buffer(key) for name, key in self._keys.items()}
        values |= {self.input: images, "": None}
        for node, done in zip(self.nodes, self._done_after, strict=True):
            values[node.output] = OPERATORS[node.op](node.attributes, *(values[name] for name in node.inputs))
            for name in done:
                # What nobody reads any more makes room, as in any other network.
                values[name] = None
        found = values[self.output]
        if found is None or found.shape[:1] != images.shape[:1]:
            raise ValueError(f"{len(images)} images gave an output of shape {None if found is None else found.shape}")
        return found.flatten(1)


def last_reads(graph: Graph) -> list[tuple[str, ...]]:
    """Return, for each node, the tensors that no later one reads, its own output among them when nothing reads it."""
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
    """The graph as tensors for a checkpoint file: its constants, and the program as the bytes of a JSON text."""
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
    """What `graph_tensors` stored. Raises ValueError naming what is wrong."""
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
