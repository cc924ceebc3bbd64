"""What may be forecast, and how: each form shares one set of graphs among all its schedules and slopes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from duca_compile.methods.cycles import CycleClock
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer

FORECASTS: Mapping[str, TaylorSeer] = {
    "stack": ForecastStack(),
    "anchored": ForecastStack(anchored=True),
    "order 2": ForecastStack(order=2),
    "branches": TaylorSeer(),
}
"""The stream after the last block; how far the blocks move it from its embedding; the stream by its last three values;
every branch's feature, which takes the memory of all of them."""


class _Last:
    """Trials of one form, the `last` of which is under way. Graphs know nothing of schedules and slopes: all share
    them."""

    last: list[TaylorSeer]

    def start(self) -> CycleClock:
        return self.last[-1].start()

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return self.last[-1].weights(stored, now)


@dataclass(frozen=True)
class StackTrials(_Last, ForecastStack):
    last: list[TaylorSeer] = field(default_factory=list)


@dataclass(frozen=True)
class BranchTrials(_Last, TaylorSeer):
    last: list[TaylorSeer] = field(default_factory=list)


def trials_of(name: str, schedule: tuple[int, ...]) -> StackTrials | BranchTrials:
    """Generations of this form, one by this schedule under way."""
    first = replace(FORECASTS[name], schedule=schedule)
    if isinstance(first, ForecastStack):
        return StackTrials(order=first.order, anchored=first.anchored, last=[first])
    return BranchTrials(order=first.order, last=[first])
