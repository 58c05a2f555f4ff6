"""Graphs of the exporter rewritten for speed: equal results from fewer passes over memory.

With W, b a convolution's integers, 2^-s its factor for each channel, and a <= b integers:

- the factor goes into weights and bias, powers of two that round nothing;
- clip(floor(y), a, b) = floor(clip(y, a, b)), and a clip is done by the convolution itself (``FusedConv``);
- clip(x + floor(y), a, b) = floor(clip(x + y, a, b)) for integers x, and the sum is done by the convolution too: but only where
  every partial sum of x + y, in any order, is still a multiple of 2^-s below 2^(24 - s);
- one clip after another is one clip.
"""

import numpy as np

from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, ACTIVATION_MAX
from flowcodec.runtime.onnx_message import Graph, Node, floats_attribute, text_attribute

_DOMAIN = "com.microsoft"
_Range = tuple[float, float]


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.ranges: dict[str, _Range] = {name: (-ACTIVATION_MAX, ACTIVATION_MAX) for name in graph.inputs}
        """Limits of the integers that a value holds, where they are known."""
        self.done: set[int] = set()
        """Nodes that are part of another, by ``id``."""

    def run(self) -> None:
        nodes: list[Node] = []
        for node in self.graph.nodes:
            if id(node) not in self.done:
                nodes += self._convolution(node) if node.operator == "Conv" else [node]
                self._note_range(node)
        self.graph.nodes = nodes
        read = {name for node in nodes for name in node.inputs}
        self.graph.constants = {name: values for name, values in self.graph.constants.items() if name in read}

    def _note_range(self, node: Node) -> None:
        if node.operator == "Clip":
            self.ranges[node.outputs[0]] = self._limits(node)
        elif node.operator == "Concat" and all(name in self.ranges for name in node.inputs):
            lows, highs = zip(*(self.ranges[name] for name in node.inputs), strict=True)
            self.ranges[node.outputs[0]] = min(lows), max(highs)

    def _limits(self, clip: Node) -> _Range:
        low, high = (float(self.graph.constants[name]) for name in clip.inputs[1:])
        return low, high

    def _next(self, value: str, operator: str) -> Node | None:
        """The only reader of a value, where it is such an operation."""
        readers = self.readers.get(value, [])
        return readers[0] if len(readers) == 1 and readers[0].operator == operator else None

    def _clips(self, value: str) -> tuple[list[Node], _Range]:
        """The clips that follow a value, and the limits of all together."""
        clips: list[Node] = []
        limits = -np.inf, np.inf
        while clip := self._next(value, "Clip"):
            low, high = self._limits(clip)
            limits = min(max(limits[0], low), high), min(max(limits[1], low), high)
            clips.append(clip)
            value = clip.outputs[0]
        return clips, limits

    def _convolution(self, conv: Node) -> list[Node]:
        factor, floor = self._next(conv.outputs[0], "Mul"), None
        if factor is not None:
            floor = self._next(factor.outputs[0], "Floor")
        if factor is None or floor is None:
            return [conv]
        units = self._fold(conv, factor)
        self.done |= {id(factor), id(floor)}
        addition = self._next(floor.outputs[0], "Add")
        clips, limits = self._clips(addition.outputs[0] if addition else floor.outputs[0])
        added: list[str] = []
        if addition is not None:
            added = [name for name in addition.inputs if name != floor.outputs[0]]
            if not (len(added) == 1 and self._sums_are_exact(conv, added[0], units)):
                clips = []
        if not clips:
            return [conv, Node("Floor", conv.outputs, floor.outputs)]
        self.done |= {id(clip) for clip in clips} | ({id(addition)} if addition else set())
        result = clips[-1].outputs[0]
        self.ranges[result] = limits
        activation = [text_attribute("activation", "Clip"), floats_attribute("activation_params", list(limits))]
        fused = Node("FusedConv", conv.inputs + added, conv.outputs, conv.attributes + activation, _DOMAIN)
        return [fused, Node("Floor", conv.outputs, [result])]

    def _fold(self, conv: Node, factor: Node) -> np.ndarray:
        """Factors into the weights; returns 2^s (channels,)."""
        constants = self.graph.constants
        (factors,) = (constants[name].reshape(-1) for name in factor.inputs if name in constants)
        _, weights, biases = conv.inputs
        constants[weights] = constants[weights] * factors.reshape(-1, 1, 1, 1)
        constants[biases] = constants[biases] * factors
        return 1 / factors.astype(np.float64)

    def _sums_are_exact(self, conv: Node, added: str, units: np.ndarray) -> bool:
        if not {conv.inputs[0], added} <= self.ranges.keys():
            return False
        weights, biases = (self.graph.constants[name].astype(np.float64) for name in conv.inputs[1:])
        weights = weights.reshape(len(weights), -1)
        (low, high), (added_low, added_high) = self.ranges[conv.inputs[0]], self.ranges[added]
        terms = np.stack([weights * low, weights * high])
        largest = np.maximum(terms.max(0), 0).sum(1) + np.maximum(biases, 0) + max(added_high, 0)
        smallest = np.minimum(terms.min(0), 0).sum(1) + np.minimum(biases, 0) + min(added_low, 0)
        return bool((np.maximum(largest, -smallest) * units < ACCUMULATOR_LIMIT).all())


def fused(data: bytes) -> bytes:
    """A serialised graph -> one of equal results on integers up to ``ACTIVATION_MAX``."""
    graph = Graph.read(data)
    _Fusion(graph).run()
    return graph.write()
