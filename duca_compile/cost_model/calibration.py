"""Seconds of a step from its cost, after a few measurements on the machine at hand."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import combinations

import torch

from duca_compile.cost.step_cost import Cost


@dataclass(frozen=True)
class Calibration:
    """A step takes `overhead` seconds and, for each FLOP and byte of its cost, so many seconds of each kind.

    The terms add up, as the kernels of a step run one after the other: products of matrices at the rate of the
    arithmetic, attention at one of its own, and what lies between them at that of the memory.
    """

    overhead: float
    linear_flop: float
    attention_flop: float
    weight_byte: float
    cache_byte: float
    value_byte: float

    def seconds(self, cost: Cost[int]) -> float:
        total: float = sum(rate * amount for rate, amount in zip(astuple(self), _amounts(cost), strict=True))
        return total

    @classmethod
    def fit(cls, costs: Sequence[Cost[int]], seconds: Sequence[float]) -> "Calibration":
        """The rates, none of them negative, that bring the squares of the relative errors to their least sum.

        Raises `ValueError` for fewer than two measurements, or for one that is not above zero.
        """
        if len(costs) != len(seconds) or len(seconds) < 2 or min(seconds) <= 0:
            raise ValueError("a calibration takes two measurements or more, each of a cost and of seconds above zero")
        relative = torch.tensor([_amounts(cost) for cost in costs], dtype=torch.float64)
        relative /= torch.tensor(seconds, dtype=torch.float64)[:, None]
        return cls(*_nonnegative(relative))


def _amounts(cost: Cost[int]) -> tuple[int, ...]:
    """What the rates of a `Calibration` are multiplied with, in their order."""
    linear = cost.flops - cost.attention_flops
    return 1, linear, cost.attention_flops, cost.weights, cost.caches, cost.values


def _nonnegative(amounts: torch.Tensor) -> list[float]:
    """The `x`, none below 0, nearest to `amounts @ x = 1`: the best over all subsets of terms with such a solution."""
    scale = amounts.amax(dim=0).clamp(min=torch.finfo(amounts.dtype).tiny)
    ones = torch.ones(len(amounts), 1, dtype=amounts.dtype)
    terms = range(amounts.shape[1])
    best = torch.zeros(amounts.shape[1], dtype=amounts.dtype)
    least = float("inf")
    for chosen in (list(each) for count in terms for each in combinations(terms, count + 1)):
        columns = (amounts / scale)[:, chosen]
        found = torch.linalg.lstsq(columns, ones, driver="gelsd").solution
        error = float((columns @ found - ones).square().sum())
        if error < least and bool((found >= 0).all()):
            least, best = error, torch.zeros_like(best).index_copy(0, torch.tensor(chosen), found[:, 0] / scale[chosen])
    return best.tolist()
