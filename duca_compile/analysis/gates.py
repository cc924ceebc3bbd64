"""The way from a feature to the addition: gates, which every step applies anew to what it keeps of the feature.

A gate may lie in a `where` between two of them (frames that are given and frames that are denoised), be applied in
another shape (a gate per frame to tokens unflattened into frames), or in several parts that are added up. What they
have in common: all that depends on the stream, on the way, depends on it through one value alone, the feature, and the
way is linear in that, position by position.
"""

import math
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import torch
from torch import fx

from duca_compile.analysis.order import Order
from duca_compile.analysis.token_rules import Place, rule
from duca_compile.graph import ir
from duca_compile.graph.op_sets import CASTS, CLAMPS, MOVES
from duca_compile.torch_private import Size

aten = torch.ops.aten
LONGEST = 256
"""Ops between a feature and its addition; the longest way known has 9."""


@dataclass(frozen=True)
class Axes:
    """Where the samples and the features of the addition lie in a value on the way to it; None where they got lost."""

    samples: Place | None
    features: Place | None

    def kept_in(self, size: tuple[Size, ...], total: Any) -> bool:
        """Whether a value of this size has all positions of the addition, samples first and features last.

        Then what lies between are tokens, in an order that does not matter here.
        """
        if self.samples is None or self.features is None or len(size) < 2:
            return False
        whole = Place(len(size) - 1, size[-1])
        return self.samples.dim == 0 and self.features == whole and math.prod(size) == total


@dataclass(frozen=True)
class _Found:
    feature: fx.Node
    gates: tuple[fx.Node, ...]
    moves: int
    """Ops between it and the addition that put values elsewhere."""


def peel(body: fx.Node, source: fx.Node, order: Order, sums: Container[fx.Node]) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """The feature under gates, scales, casts and clamps, and the gates.

    `source` is what the body reads of the stream; the `sums` of streams are never on the way. Other shapes are looked
    through for the sake of a gate behind them only.
    """
    way = _Way(body, source, order)
    best = _Found(body, (), 0)
    size = ir.shape(body)
    for found in way.narrows(sums):
        more = len(found.gates) > len(best.gates)
        nearer = found.moves == best.moves
        back = ir.shape(best.feature) != size
        if more or (len(found.gates) == len(best.gates) and ir.shape(found.feature) == size and (nearer or back)):
            best = found
    return best.feature, best.gates


class _Way:
    """All ways from the body up, latest node first, so that where one node is left all ways lead through it."""

    def __init__(self, body: fx.Node, source: fx.Node, order: Order) -> None:
        self._source = source
        self._order = order
        self._total = math.prod(ir.shape(body) or ())
        size = ir.shape(body) or ()
        self._axes = {body: Axes(Place(0, size[0]), Place(len(size) - 1, size[-1]))}
        self._ahead = [(-order.position[body], body)]
        self._gates: dict[fx.Node, None] = {}
        self._moves = 0

    def narrows(self, sums: Container[fx.Node]) -> Iterator[_Found]:
        """The values, below which all is gate, from the body up."""
        for _ in range(LONGEST):
            _, node = heappop(self._ahead)
            size = ir.shape(node)
            if not self._ahead and size is not None and self._axes[node].kept_in(size, self._total):
                yield _Found(node, tuple(self._gates), self._moves)
            if node is self._source or node in sums or not self._step(node):
                return

    def _step(self, node: fx.Node) -> bool:
        """Goes on to the operands on the way; False where the node is none of its ops."""
        operands = [
            each for each in node.all_input_nodes if not isinstance(ir.value(each), torch.SymInt | torch.SymFloat)
        ]
        if not any(map(self._depends, operands)) or not _is_linear(node, self._depends):
            return False
        self._moves += ir.packet(node) in MOVES or ir.packet(node) is None
        self._gates |= dict.fromkeys(operand for operand in operands if not self._depends(operand))
        for operand in filter(self._depends, operands):
            axes = self._axes_of(operand, node)
            if operand not in self._axes:
                self._axes[operand] = axes
                heappush(self._ahead, (-self._order.position[operand], operand))
            elif self._axes[operand] != axes:
                self._axes[operand] = Axes(None, None)
        return True

    def _depends(self, operand: Any) -> bool:
        return isinstance(operand, fx.Node) and self._order.feeds(self._source, operand)

    def _axes_of(self, operand: fx.Node, node: fx.Node) -> Axes:
        here = self._axes[node]
        if ir.shape(operand) == ir.shape(node) and ir.packet(node) not in MOVES:
            return here
        return Axes(_traced(here.samples, operand, node), _traced(here.features, operand, node))


def _traced(place: Place | None, operand: fx.Node, node: fx.Node) -> Place | None:
    return None if place is None else (rule(node, place) or {}).get(operand)


def _is_linear(node: fx.Node, depends: Callable[[Any], bool]) -> bool:
    """Whether the op is linear, position by position, in its operands that `depends` tells; casts and clamps count."""
    packet = ir.packet(node)
    if packet in CASTS + CLAMPS + (aten.neg, aten.div, aten.masked_fill):
        return depends(node.args[0]) and not any(map(depends, node.args[1:]))
    if packet in MOVES:
        return True
    check = _LINEAR.get(packet)
    return check(depends, *node.args[:3]) if check is not None else _is_part(node)


def _is_part(node: fx.Node) -> bool:
    parent: Any = node.args[0] if node.args else None
    return ir.packet(node) is None and isinstance(parent, fx.Node) and ir.packet(parent) in MOVES


_LINEAR: dict[Any, Callable[..., bool]] = {
    aten.mul: lambda depends, left, right: depends(left) != depends(right),
    aten.add: lambda depends, left, right: depends(left) and depends(right),
    aten.sub: lambda depends, left, right: depends(left) and depends(right),
    aten.addcmul: lambda depends, added, left, right: depends(added) and depends(left) != depends(right),
    aten.where: lambda depends, mask, *branches: not depends(mask),
    aten.lerp: lambda depends, left, right, weight: not depends(weight),
}
