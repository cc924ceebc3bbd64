"""Large captured graphs, written op by op: a capture of 10,000 ops would take minutes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from duca_compile.capture.canonicalise import canonicalise
from duca_compile.capture.capture import Capture
from duca_compile.capture.flatten import Flatten

aten = torch.ops.aten
SIZE = (2, 8, 4)
"""Of the stream: samples, tokens, features."""


class Drawing:
    """Adds ops to a graph; every value of one size and type is one fake tensor."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._mode = FakeTensorMode()
        self._known: dict[Any, Any] = {}
        self.x, self.t = self.input("x", SIZE), self.input("t", (2,))
        self.weight = self.input("weight", (4, 4))

    def input(self, name: str, size: tuple[int, ...]) -> fx.Node:
        return self._noted(self.graph.placeholder(name), size)

    def call(self, target: Any, *args: Any, size: tuple[int, ...] = SIZE) -> fx.Node:
        return self._noted(self.graph.call_function(target, args), size)

    def _noted(self, node: fx.Node, size: tuple[int, ...]) -> fx.Node:
        if size not in self._known:
            with self._mode:
                self._known[size] = torch.empty(size)
        node.meta["val"] = self._known[size]
        return node

    def add(self, left: fx.Node, right: fx.Node) -> fx.Node:
        return self.call(aten.add.Tensor, left, right)

    def mul(self, left: fx.Node, right: fx.Node, size: tuple[int, ...] = SIZE) -> fx.Node:
        return self.call(aten.mul.Tensor, left, right, size=size)

    def linear(self, x: fx.Node) -> fx.Node:
        return self.call(aten.linear.default, x, self.weight)

    def gate(self) -> fx.Node:
        """[2, 1, 1], from the timestep."""
        return self.call(
            aten.reshape.default, self.call(aten.sin.default, self.t, size=(2,)), [2, 1, 1], size=(2, 1, 1)
        )

    def captured(self, result: fx.Node) -> Capture:
        """As `capture` leaves a graph, with its `weight` as a parameter."""
        self.graph.output([result])
        gm = fx.GraphModule(torch.nn.Module(), self.graph)
        canonicalise(gm)
        own = tuple(node.name for node in gm.graph.find_nodes(op="placeholder") if node is not self.weight)
        return Capture(gm, (), frozenset([self.weight.name]), own, Flatten.like(own))


def block(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
    """Two branches: tokens mixed across, and an MLP."""
    mixed = to.call(aten.softmax.int, to.linear(x), 1)
    x = to.add(x, to.mul(gate, to.linear(mixed)))
    return to.add(x, to.mul(gate, to.linear(to.call(aten.gelu.default, to.linear(x)))))


def framed(inside: Callable[[Drawing, fx.Node, fx.Node], fx.Node]) -> Capture:
    """A model with a branch before and a branch after what `inside` makes of the stream and a gate."""
    to = Drawing()
    gate = to.gate()
    x = inside(to, block(to, to.linear(to.x), gate), gate)
    return to.captured(to.linear(block(to, x, gate)))
