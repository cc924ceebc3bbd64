"""Finds residual additions `x + gate * f(x)` and the streams they form, by structure alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from duca_compile import ir
from duca_compile.refusal import located

aten = torch.ops.aten

ADDITIONS = (aten.add, aten.addcmul)
CASTS = (aten._to_copy, aten.to, aten.clone, aten.contiguous)
CLAMPS = (aten.clamp, aten.clip, aten.nan_to_num, aten.clamp_min, aten.clamp_max)
CONTRACTIONS = (
    aten.linear, aten.matmul, aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.einsum, aten.convolution,
    aten.conv1d, aten.conv2d, aten.conv3d, aten.scaled_dot_product_attention, aten._grouped_mm,
)  # fmt: skip


@dataclass(frozen=True)
class Residual:
    """`sum = skip + gates * feature`, the feature computed from `source`: the skip, unless branches are parallel."""

    sum: fx.Node
    skip: fx.Node
    source: fx.Node
    feature: fx.Node
    gates: tuple[fx.Node, ...]


@dataclass
class Chain:
    """A stream in the making: `root`, then the residuals that add to it, in order."""

    root: fx.Node
    residuals: list[Residual]


class Order:
    """Which node is computed from which, as bit sets."""

    def __init__(self, graph: fx.Graph) -> None:
        self.position = {node: at for at, node in enumerate(graph.nodes)}
        self.bits: dict[fx.Node, int] = {}
        for node in graph.nodes:
            above = 1 << self.position[node]
            for operand in node.all_input_nodes:
                above |= self.bits[operand]
            self.bits[node] = above

    def feeds(self, earlier: fx.Node, later: fx.Node) -> bool:
        """Whether `later` is `earlier` or computed from it."""
        return bool(self.bits[later] >> self.position[earlier] & 1)


def look_through(node: fx.Node) -> fx.Node:
    """The value behind casts and clamps, which keep a stream the same stream."""
    while ir.packet(node) in CASTS + CLAMPS and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def find_residuals(graph: fx.Graph, order: Order) -> tuple[list[Residual], list[tuple[str, str]]]:
    """The residual additions in graph order, and those refused, each with its reason."""
    found: dict[fx.Node, Residual] = {}
    refusals: list[tuple[str, str]] = []
    for node in graph.nodes:
        with located(node):
            refusals += _find_at(node, found, order)
    return list(found.values()), refusals


def _find_at(node: fx.Node, found: dict[fx.Node, Residual], order: Order) -> list[tuple[str, str]]:
    """Adds the residual at `node`, if any, to `found`; gives the reasons why additions that look alike are none."""
    refusals = []
    for skip, body in _operand_pairs(node):
        source = _source(skip, body, found, order)
        if source is None or skip is body or _both_factors_move(node, source, order):
            continue
        residual = Residual(node, skip, source, *_peel(body, source, order))
        if not _contracts(residual, order) or not _reads_directly(residual, found, order):
            continue
        reason = _why_not(residual, found, order)
        if reason is None:
            found[node] = residual
            break
        refusals.append((node.name, reason))
    return refusals


def _source(skip: fx.Node, body: fx.Node, found: dict[fx.Node, Residual], order: Order) -> fx.Node | None:
    """What the body reads of the stream: in `x + f(x) + g(x)`, the second branch reads the skip of the first."""
    if order.feeds(skip, body):
        return skip
    before = found.get(skip)
    return before.source if before is not None and order.feeds(before.source, body) else None


def chains(residuals: list[Residual]) -> list[Chain]:
    """Residuals linked by their skips. A second residual on the same value starts no new stream."""
    of_sum: dict[fx.Node, Chain] = {}
    of_root: dict[fx.Node, Chain] = {}
    for residual in residuals:
        origin = _behind_masks(look_through(residual.skip), of_sum)
        chain = of_sum.get(origin) or of_root.get(origin)
        if chain is None:
            chain = of_root[origin] = Chain(origin, [])
        chain.residuals.append(residual)
        of_sum[residual.sum] = chain
    return list(of_root.values())


def _behind_masks(node: fx.Node, sums: Mapping[fx.Node, object]) -> fx.Node:
    """The sum of a stream that is multiplied by a mask between its branches, or by several."""
    if node in sums or ir.packet(node) is not aten.mul:
        return node
    factors = [look_through(factor) for factor in node.args if isinstance(factor, fx.Node)]
    behind = [_behind_masks(factor, sums) for factor in factors if ir.shape(factor) == ir.shape(node)]
    masked = [factor for factor in behind if factor in sums]
    return masked[0] if len(masked) == 1 else node


def without_nested(found: list[Chain], order: Order) -> tuple[list[Chain], list[tuple[str, str]]]:
    """Of a branch and a stream inside its body, the one that repeats less is dropped: a skip around all blocks, an
    addition within an MLP. Also the additions dropped, each with the reason."""
    dropped: dict[fx.Node, str] = {}
    for outer in found:
        for branch in outer.residuals:
            for inner in found:
                if inner is outer or not _holds(branch, inner, order):
                    continue
                if len(inner.residuals) > len(outer.residuals):
                    dropped[branch.sum] = f"a skip around {len(inner.residuals)} branches, not a branch"
                else:
                    dropped |= {lost.sum: f"inside the branch {branch.sum.name}" for lost in inner.residuals}
    kept = [Chain(chain.root, [each for each in chain.residuals if each.sum not in dropped]) for chain in found]
    return [chain for chain in kept if chain.residuals], [(node.name, reason) for node, reason in dropped.items()]


def _holds(branch: Residual, stream: Chain, order: Order) -> bool:
    """Whether the whole stream lies between the branch's source and its feature."""
    if branch.source is stream.root or not order.feeds(branch.source, stream.root):
        return False
    return all(order.feeds(inner.sum, branch.feature) for inner in stream.residuals)


def _operand_pairs(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """(skip, body) as the addition could be read, equal in shape and with room for tokens."""
    if ir.packet(node) not in ADDITIONS or len(ir.shape(node) or ()) < 2:
        return
    first, *others = node.args[:3]
    pairs: list[Any] = [(first, other) for other in others]
    if ir.packet(node) is aten.add:
        pairs = [(first, others[0]), (others[0], first)]
    for skip, body in pairs:
        equal = all(isinstance(side, fx.Node) and ir.shape(side) == ir.shape(node) for side in (skip, body))
        if equal:
            yield look_through(skip), body


def _both_factors_move(node: fx.Node, skip: fx.Node, order: Order) -> bool:
    """`addcmul` whose two factors both depend on the skip: neither is a gate."""
    return ir.packet(node) is aten.addcmul and all(
        isinstance(factor, fx.Node) and order.feeds(skip, factor) for factor in node.args[1:3]
    )


def _peel(body: fx.Node, skip: fx.Node, order: Order) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """The feature under gates, scales, casts and clamps, and the gates."""
    gates: list[fx.Node] = []
    node = body
    while True:
        inner = _factor(node, skip, order, gates)
        if inner is None or ir.shape(inner) != ir.shape(body):
            return node, tuple(gates)
        node = inner


def _factor(node: fx.Node, skip: fx.Node, order: Order, gates: list[fx.Node]) -> fx.Node | None:
    packet = ir.packet(node)
    if packet in CASTS + CLAMPS or (packet is aten.div and not isinstance(node.args[1], fx.Node)):
        return node.args[0] if isinstance(node.args[0], fx.Node) else None
    if packet is not aten.mul:
        return None
    factors = [factor for factor in node.args if isinstance(factor, fx.Node)]
    dependent = [factor for factor in factors if order.feeds(skip, factor)]
    if len(dependent) != 1:
        return None
    gates.extend(factor for factor in factors if factor is not dependent[0])
    return dependent[0]


def _contracts(residual: Residual, order: Order) -> bool:
    """Whether a matrix product lies between skip and feature: without one, it is no body worth caching."""
    source = residual.source
    for node in ir.ancestors([residual.feature], stop=lambda node: node is source):
        if ir.packet(node) in CONTRACTIONS and node is not source and order.feeds(source, node):
            return True
    return False


def _reads_directly(residual: Residual, found: dict[fx.Node, Residual], order: Order) -> bool:
    """Whether a branch that would begin a stream reads it other than by way of streams that do not come from it.

    A shift spread over the tokens, which several blocks share, is added again and again to what it changed before, and
    is no stream.
    """
    if ir.packet(residual.source) is not aten.expand:
        return True

    def stops(node: fx.Node) -> bool:
        return node is residual.source or (node in found and not order.feeds(residual.source, _root(node, found)))

    return residual.source in ir.ancestors([residual.feature], stop=stops)


def _root(total: fx.Node, found: dict[fx.Node, Residual]) -> fx.Node:
    """Where the stream began that the sum belongs to."""
    while total in found:
        total = look_through(found[total].skip)
    return total


def _why_not(residual: Residual, found: dict[fx.Node, Residual], order: Order) -> str | None:
    """A long skip adds a much earlier value of the stream: the stream itself lies between the operands."""
    if look_through(residual.feature) in found:
        return "adds two values of a stream: a long skip, not a branch"
    crossed = 0
    stream = {look_through(residual.skip)}
    for earlier in found.values():
        if look_through(earlier.skip) in stream and order.feeds(earlier.sum, residual.feature):
            stream.add(earlier.sum)
            crossed += 1
    return f"a long skip over {crossed} branches, not a branch" if crossed > 1 else None
