"""What a method may be moved to by one small step: a full step one earlier or later, or a slope a little off."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from torch import Tensor

from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.tuning.forecast_error import forecast_error

SLOPE = 0.05


def next_move(method: TaylorSeer, tried: Collection[TaylorSeer], products: Tensor) -> TaylorSeer | None:
    """Of those that were not tried, the one whose forecasts err least, by these inner products of the steps; None where
    all were."""
    left = [each for each in moves(method, len(products)) if each not in tried]
    return min(left, key=lambda each: forecast_error(products, listed(each), each.slope), default=None)


def moves(method: TaylorSeer, steps: int) -> Iterator[TaylorSeer]:
    """The first step stays full."""
    full = listed(method)
    ends = [*full, steps]
    for at in range(1, len(full)):
        for moved in (full[at] - 1, full[at] + 1):
            if ends[at - 1] < moved < ends[at + 1]:
                yield replace(method, schedule=(*full[:at], moved, *full[at + 1 :]))
    for slope in (method.slope - SLOPE, method.slope + SLOPE):
        yield replace(method, slope=round(max(slope, 0.0), 2))


def listed(method: TaylorSeer) -> tuple[int, ...]:
    """The full steps of a method that lists them."""
    assert not isinstance(method.schedule, str)
    return tuple(method.schedule)
