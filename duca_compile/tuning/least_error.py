"""The full steps from which all others are forecast best, by what was recorded of a computed generation.

What a forecast combines is linear in what full steps stored, so its squared error at any step, from any two full ones,
is told by the inner products of the steps alone. Over all choices of full steps the least sum of it is found exactly,
by dynamic programming over the last two. These are errors of a generation that went as if computed: they do not add up
along the way as real ones do, which is why `tune` runs what is found here.
"""

import torch
from torch import Tensor

LONGEST = 200
"""Steps of a generation: time and memory grow with their cube."""


def least_error(products: Tensor, count: int) -> tuple[int, ...]:
    """`count` steps, at least 2, the first among them. `products`: inner products, `[steps, steps]`, float64."""
    steps, squares = len(products), products.diagonal()
    cost = _costs(products)
    held = squares[0] + squares - 2 * products[0]
    best = products.new_full((steps, steps), torch.inf)
    best[0, 1:] = held.cumsum(0)[:-1]
    origins = []
    for _ in range(count - 2):
        best, origin = (best[:, :, None] + cost[:, :, :steps]).min(0)
        origins.append(origin)
    before, last = divmod(int((best + cost[:, :, steps]).argmin()), steps)
    found = [last, before]
    for origin in reversed(origins):
        found.append(int(origin[found[-1], found[-2]]))
    return tuple(reversed(found))


def _costs(products: Tensor) -> Tensor:
    """The squared errors, added up, of the steps between full step `b`, before which `a` was one, and step `m`:
    `[a, b, m]`, m up to the number of steps; infinite where the three do not rise.

    They are forecast to first order, no further ahead than `a` and `b` lie apart.
    """
    steps, squares = len(products), products.diagonal()
    number = torch.arange(steps + 1)
    a, b, at = number[:-1, None, None], number[None, :-1, None], number[None, None, :-1]
    apart = (b - a).clamp_min(1)
    share = (at - b).clamp(max=apart) / apart
    error = (
        squares
        - 2 * ((1 + share) * products[None] - share * products[:, None])
        + (1 + share) ** 2 * squares[None, :, None]
        - 2 * share * (1 + share) * products[:, :, None]
        + share**2 * squares[:, None, None]
    )
    error = torch.where(at > b, error.clamp_min(0), 0.0)
    total = torch.cat([error.new_zeros(steps, steps, 1), error.cumsum(2)], 2)
    return torch.where((a < b) & (b < number), total, torch.inf)
