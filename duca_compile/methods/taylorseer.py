"""TaylorSeer (arXiv 2503.06923): features are forecast from those of the last full steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from duca_compile.methods.base import FULL, Action, Recipe, always
from duca_compile.methods.check import require_choice
from duca_compile.methods.cycles import Cycles

ORDERS = (0, 1, 2)


@dataclass(frozen=True)
class TaylorSeer(Cycles):
    """Every branch's feature before its gate is forecast."""

    NAMES: ClassVar[tuple[str, ...]] = (FULL, "forecast")

    order: int = 1
    """Of the expansion, over the last `order + 1` stored values; of a lower one where fewer are known. 0 holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("order", self.order, ORDERS)

    @property
    def cached(self) -> Recipe:
        return Recipe("forecast", always(Action.FORECAST), history=self.order + 1)

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        """No further ahead than the last two full steps lie apart: where that is little, as after one that was computed
        out of turn, they hardly tell where things go."""
        nodes = stored[: self.order + 1]
        reach = nodes[0] - nodes[1] if len(nodes) > 1 else 0
        return taylor(nodes, min(now, nodes[0] + reach))


def taylor(nodes: Sequence[int], at: int) -> tuple[float, ...]:
    """The weight of the value at each node, the last one first, in the Taylor expansion around the last one.

    Its derivatives are finite differences: of order i, over the first i + 1 nodes, however far these lie apart.
    """
    ahead = at - nodes[0]
    found = [0.0] * len(nodes)
    for order in range(len(nodes)):
        for own in range(order + 1):
            apart = math.prod(nodes[own] - nodes[other] for other in range(order + 1) if other != own)
            found[own] += ahead**order / apart
    return tuple(found)
