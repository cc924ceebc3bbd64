"""Links residual additions to the streams they form, and drops what lies around or within a stream's branches."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.order import Order
from duca_compile.analysis.residuals import Residual
from duca_compile.graph import ir
from duca_compile.refusal import Refusal

aten = torch.ops.aten


@dataclass
class Chain:
    """A stream in the making: `root`, then the residuals that add to it, in order."""

    root: fx.Node
    residuals: list[Residual]


def chains(residuals: list[Residual], order: Order) -> list[Chain]:
    """Residuals linked by their skips. A second residual on the same value starts no new stream."""
    masked = _masked({residual.sum for residual in residuals}, order)
    of_sum: dict[fx.Node, Chain] = {}
    of_root: dict[fx.Node, Chain] = {}
    for residual in residuals:
        origin = masked.get(residual.skip, residual.skip)
        chain = of_sum.get(origin) or of_root.get(origin)
        if chain is None:
            chain = of_root[origin] = Chain(origin, [])
        chain.residuals.append(residual)
        of_sum[residual.sum] = chain
    return list(of_root.values())


def _masked(sums: Container[fx.Node], order: Order) -> dict[fx.Node, fx.Node]:
    """Of what a stream is when multiplied by a mask between its branches, or by several, the sum of the stream."""
    found: dict[fx.Node, fx.Node] = {}
    for node in order.position:
        if node in sums or ir.packet(node) is not aten.mul:
            continue
        factors = [order.behind(factor) for factor in node.args if isinstance(factor, fx.Node)]
        behind = [found.get(factor, factor) for factor in factors if ir.shape(factor) == ir.shape(node)]
        masked = [factor for factor in behind if factor in sums]
        if len(masked) == 1:
            found[node] = masked[0]
    return found


def without_nested(found: list[Chain], order: Order) -> tuple[list[Chain], list[Refusal]]:
    """Of a branch and a stream inside its body, the one that repeats less is dropped: a skip around all blocks, an
    addition within an MLP. Also the additions dropped."""
    dropped: dict[fx.Node, str] = {}
    nest = _Nest(found, order)
    for outer in found:
        for branch in outer.residuals:
            longer = next(nest.inside(branch, nest.longer_than(len(outer.residuals))), None)
            if longer is not None:
                dropped[branch.sum] = f"a skip around {len(longer.residuals)} branches, not a branch"
                continue
            for inner in nest.inside(branch, nest.left):
                dropped |= {lost.sum: f"inside the branch {branch.sum.name}" for lost in inner.residuals}
                nest.drop(inner)
    kept = [Chain(chain.root, [each for each in chain.residuals if each.sum not in dropped]) for chain in found]
    return [chain for chain in kept if chain.residuals], [
        Refusal(node.name, reason) for node, reason in dropped.items()
    ]


class _Nest:
    """Which streams lie wholly between a branch's source and its feature, asked by their last sums."""

    def __init__(self, found: list[Chain], order: Order) -> None:
        self._order = order
        self._of_last = {chain.residuals[-1].sum: chain for chain in found}
        self._sums = {chain.root: order.set_of(residual.sum for residual in chain.residuals) for chain in found}
        self._longer: dict[int, int] = {}
        self.left = order.set_of(self._of_last)

    def longer_than(self, length: int) -> int:
        if length not in self._longer:
            longer = (last for last, chain in self._of_last.items() if len(chain.residuals) > length)
            self._longer[length] = self._order.set_of(longer)
        return self._longer[length]

    def inside(self, branch: Residual, lasts: int) -> Iterator[Chain]:
        above = self._order.above
        for last in self._order.members(lasts & above[branch.feature] & ~above[branch.source]):
            chain = self._of_last[last]
            if branch.source is chain.root or not self._order.feeds(branch.source, chain.root):
                continue
            if not self._sums[chain.root] & ~above[branch.feature]:
                yield chain

    def drop(self, chain: Chain) -> None:
        self.left &= ~self._order.set_of([chain.residuals[-1].sum])
