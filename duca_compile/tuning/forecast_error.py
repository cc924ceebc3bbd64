"""How far forecasts err between full steps, and under which slope least, by what was recorded of a computed generation.

Forecasts are of first order, and no further ahead than the last two full steps lie apart. These are errors of a
generation that went as if computed: whether they tell of a real one, `tune` tries.
"""

import itertools
from collections.abc import Iterator, Sequence

from torch import Tensor


def forecast_error(products: Tensor, full: Sequence[int], slope: float) -> float:
    """The squared errors of all steps, added up. `products`: inner products of steps, `[steps, steps]`, float64; `full`
    are at least 2 of them, the first among them."""
    held = float(products[0, 0] * full[1] + products.diagonal()[: full[1]].sum() - 2 * products[0, : full[1]].sum())
    return held + sum(
        float(products[at, at] + products[last, last] - 2 * products[at, last])
        - 2 * slope * share * _along(products, before, last, at)
        + (slope * share) ** 2 * _length(products, before, last)
        for before, last, at, share in _forecasts(full, len(products))
    )


def fitted_slope(products: Tensor, full: Sequence[int]) -> float:
    """By least squares; at least 0; 1 where no step is forecast."""
    along, square = 0.0, 0.0
    for before, last, at, share in _forecasts(full, len(products)):
        along += share * _along(products, before, last, at)
        square += share**2 * _length(products, before, last)
    return max(along / square, 0.0) if square else 1.0


def _forecasts(full: Sequence[int], steps: int) -> Iterator[tuple[int, int, int, float]]:
    """Of each step that is forecast from two full ones: these, the step, and how far ahead of the last it lies, over
    the way between them."""
    for (before, last), end in zip(itertools.pairwise(full), [*full[2:], steps], strict=True):
        for at in range(last + 1, end):
            yield before, last, at, min(at - last, last - before) / (last - before)


def _along(products: Tensor, before: int, last: int, at: int) -> float:
    """How far a step has gone from the last full one along the way that this came."""
    return float(products[last, at] - products[last, last] - products[before, at] + products[before, last])


def _length(products: Tensor, before: int, last: int) -> float:
    """Of the way between two full steps, squared."""
    return float(products[last, last] + products[before, before] - 2 * products[before, last])
