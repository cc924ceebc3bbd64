"""Which value of a graph is computed from which, asked of the values that residual additions add."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.attention_ops import is_attention
from duca_compile.graph.op_sets import ADDITIONS, CASTS, CLAMPS, CONTRACTIONS, is_quantised_product


class Order:
    """Sets of `terms`, the additions and what they add, as the bits of one number for each node.

    They are made in one pass. An operand's number is taken over where nothing joins it: long chains cost nothing.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.position = {node: at for at, node in enumerate(graph.nodes)}
        self._behind: dict[fx.Node, fx.Node] = {}
        terms: dict[fx.Node, None] = {}
        for node in graph.nodes:
            if ir.packet(node) in CASTS + CLAMPS and isinstance(node.args[0], fx.Node):
                self._behind[node] = self.behind(node.args[0])
            summed = [self.behind(operand) for operand in operands(node)]
            terms |= dict.fromkeys([*summed, node] if summed else [])
        self.terms = tuple(terms)
        self._bit = {node: 1 << at for at, node in enumerate(terms)}
        self.above: dict[fx.Node, int] = {}
        """The terms that a node is computed from, itself among them."""
        self._by_product: dict[fx.Node, int] = {}
        for node in graph.nodes:
            above, by_product = union(self.above, node), union(self._by_product, node)
            self._by_product[node] = by_product | above if multiplies(node) else by_product
            self.above[node] = above | self._bit[node] if node in self._bit else above

    def behind(self, node: fx.Node) -> fx.Node:
        """The value behind casts and clamps, which keep a stream the same stream."""
        return self._behind.get(node, node)

    def feeds(self, term: fx.Node, later: fx.Node) -> bool:
        """Whether `later` is `term` or computed from it."""
        return bool(self.above[later] & self._bit[term])

    def feeds_by_product(self, term: fx.Node, later: fx.Node) -> bool:
        """Whether a matrix product lies between them, or is `later`."""
        return bool(self._by_product[later] & self._bit[term])

    def set_of(self, nodes: Iterable[fx.Node]) -> int:
        """Those of the nodes that are terms."""
        found = 0
        for node in nodes:
            found |= self._bit.get(node, 0)
        return found

    def members(self, found: int) -> Iterator[fx.Node]:
        while found:
            yield self.terms[(found & -found).bit_length() - 1]
            found &= found - 1


def multiplies(node: fx.Node) -> bool:
    """Whether it is a matrix product, a convolution or an attention."""
    return ir.packet(node) in CONTRACTIONS or is_quantised_product(ir.packet(node)) or is_attention(node)


def operands(node: fx.Node) -> list[fx.Node]:
    """What an addition may add to a stream: its operands that have its shape, with room for tokens."""
    size = ir.shape(node) if ir.packet(node) in ADDITIONS else None
    given: tuple[Any, ...] = node.args[:3] if size is not None and len(size) > 1 else ()
    return [each for each in given if isinstance(each, fx.Node) and ir.shape(each) == size]


def union(sets: Mapping[fx.Node, int], node: fx.Node) -> int:
    """All that the operands have."""
    found = 0
    for operand in node.all_input_nodes:
        other = sets[operand]
        if other != found:
            found = found | other if found and other else found or other
    return found
