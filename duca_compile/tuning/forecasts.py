"""What may be forecast, and how: each form shares one set of graphs among all its schedules and slopes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class StackTrials(ForecastStack):
    """The `last` of them is under way. Graphs know nothing of schedules and slopes: all share them."""

    last: list[TaylorSeer] = field(default_factory=list)

    def start(self) -> CycleClock:
        return self.last[-1].start()

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return self.last[-1].weights(stored, now)


@dataclass(frozen=True)
class BranchTrials(TaylorSeer):
    """The same of branches."""

    last: list[TaylorSeer] = field(default_factory=list)

    def start(self) -> CycleClock:
        return self.last[-1].start()

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return self.last[-1].weights(stored, now)


def trials_of(first: TaylorSeer) -> StackTrials | BranchTrials:
    """Generations of this form, this one under way."""
    if isinstance(first, ForecastStack):
        return StackTrials(order=first.order, anchored=first.anchored, last=[first])
    return BranchTrials(order=first.order, last=[first])
