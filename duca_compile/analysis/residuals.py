"""Finds residual additions `x + gate * f(x)`, by structure alone."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import fx

from duca_compile.analysis.gates import peel
from duca_compile.analysis.order import Order, operands, union
from duca_compile.graph import ir
from duca_compile.refusal import Refusal, located

aten = torch.ops.aten
COUNTED = 64
"""Of the branches that a long skip leads over, so many are counted."""


@dataclass(frozen=True)
class Residual:
    """`sum = skip + gates * feature`, the feature computed from `source`: the skip, unless branches are parallel.

    `addend`: what is added to the skip.
    """

    sum: fx.Node
    skip: fx.Node
    addend: fx.Node
    source: fx.Node
    feature: fx.Node
    gates: tuple[fx.Node, ...]


def find_residuals(graph: fx.Graph, order: Order) -> tuple[list[Residual], list[Refusal]]:
    """The residual additions in graph order, and those refused."""
    search = _Search(order)
    for node in graph.nodes:
        with located(node):
            search.visit(node)
    return list(search.found.values()), search.refusals


@dataclass
class _Search:
    """Down the graph, node by node."""

    order: Order
    found: dict[fx.Node, Residual] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    roots: dict[fx.Node, fx.Node] = field(default_factory=dict)
    """Where the stream began that a sum belongs to."""
    sums: dict[fx.Node, int] = field(default_factory=lambda: defaultdict(int))
    """The sums that were found with a value as their skip."""
    directly: dict[fx.Node, int] = field(default_factory=dict)
    """What is spread over the tokens and read other than by way of streams that do not come from it."""

    def visit(self, node: fx.Node) -> None:
        """Notes the residual at `node`, if any, or the reasons why additions that look alike are none."""
        self.directly[node] = union(self.directly, node)
        if operands(node):
            self._find_at(node)
        if ir.packet(node) is aten.expand:
            self.directly[node] |= self.order.set_of([node])

    def _find_at(self, node: fx.Node) -> None:
        for skip, body in self._pairs(node):
            source = self._source(skip, body)
            if source is None or skip is body or self._both_factors_move(node, source):
                continue
            residual = Residual(node, skip, body, source, *peel(body, source, self.order, self.found))
            if not self.order.feeds_by_product(source, residual.feature) or not self._reads_directly(residual):
                continue
            reason = self._why_not(residual)
            if reason is None:
                self._note(residual)
                return
            self.refusals.append(Refusal(node.name, reason))

    def _note(self, residual: Residual) -> None:
        total, skip = residual.sum, residual.skip
        self.found[total] = residual
        self.roots[total] = self.roots.get(skip, skip)
        self.sums[skip] |= self.order.set_of([total])
        self.directly[total] &= self.order.above[self.roots[total]]

    def _pairs(self, node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
        """(skip, body) as the addition could be read."""
        alike = operands(node)
        first, *others = node.args[:3]
        pairs: list[Any] = [(first, other) for other in others]
        if ir.packet(node) is aten.add:
            pairs = [(first, others[0]), (others[0], first)]
        for skip, body in pairs:
            if skip in alike and body in alike:
                yield self.order.behind(skip), body

    def _source(self, skip: fx.Node, body: fx.Node) -> fx.Node | None:
        """What the body reads of the stream: in `x + f(x) + g(x)`, the second branch reads the skip of the first."""
        if self.order.feeds(skip, body):
            return skip
        before = self.found.get(skip)
        return before.source if before is not None and self.order.feeds(before.source, body) else None

    def _both_factors_move(self, node: fx.Node, source: fx.Node) -> bool:
        """`addcmul` whose two factors both depend on the skip: neither is a gate."""
        return ir.packet(node) is aten.addcmul and all(
            isinstance(factor, fx.Node) and self.order.feeds(source, factor) for factor in node.args[1:3]
        )

    def _reads_directly(self, residual: Residual) -> bool:
        """Whether a branch that would begin a stream reads it other than by way of streams that do not come from it.

        A shift spread over the tokens, which several blocks share, is added again and again to what it changed before,
        and is no stream.
        """
        source = residual.source
        return ir.packet(source) is not aten.expand or bool(
            self.directly[residual.feature] & self.order.set_of([source])
        )

    def _why_not(self, residual: Residual) -> str | None:
        """A long skip adds a much earlier value of the stream: the stream itself lies between the operands."""
        if self.order.behind(residual.feature) in self.found:
            return "adds two values of a stream: a long skip, not a branch"
        crossed = len(list(islice(self._crossed(residual), COUNTED)))
        least = "at least " if crossed == COUNTED else ""
        return f"a long skip over {least}{crossed} branches, not a branch" if crossed > 1 else None

    def _crossed(self, residual: Residual) -> Iterator[fx.Node]:
        """The sums of the stream that lie between the operands."""
        above = self.order.above[residual.feature]
        stack = [residual.skip]
        while stack:
            for total in self.order.members(self.sums[stack.pop()] & above):
                stack.append(total)
                yield total
