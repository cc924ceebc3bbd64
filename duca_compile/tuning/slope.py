"""The slope under which forecasts err least, by what was recorded of a computed generation."""

import itertools
from collections.abc import Sequence

from torch import Tensor


def fitted_slope(products: Tensor, full: Sequence[int]) -> float:
    """By least squares over all steps between the `full` ones, to first order, no further ahead than these lie apart.
    `products`: inner products of steps, `[steps, steps]`, float64. At least 0; 1 where no step is forecast.

    Of a generation that went as if computed: whether it holds of a real one, `tune` tries.
    """
    along, square = 0.0, 0.0
    for (before, last), end in zip(itertools.pairwise(full), [*full[2:], len(products)], strict=True):
        moved = products[last] - products[before]
        length = float(moved[last] - moved[before])
        for at in range(last + 1, end):
            share = min(at - last, last - before) / (last - before)
            along += share * float(moved[at] - moved[last])
            square += share**2 * length
    return max(along / square, 0.0) if square else 1.0
