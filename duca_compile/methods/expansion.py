"""The weights by which stored values are combined into a forecast: a Taylor expansion over the steps."""

import math
from collections.abc import Sequence

ORDERS = (0, 1, 2)


def expanded(stored: Sequence[int], now: int, order: int) -> tuple[float, ...]:
    """The weights of the values stored at these calls, the last one first, at the call `now`; of a lower order where
    fewer are known.

    No further ahead than the last two of them lie apart: where that is little, as after one that was computed out of
    turn, they hardly tell where things go.
    """
    nodes = stored[: order + 1]
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
