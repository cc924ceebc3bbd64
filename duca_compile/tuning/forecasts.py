"""What may be forecast, and how: each form shares one set of graphs among all its schedules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from duca_compile.methods.cycles import CycleClock
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer

Schedule = tuple[int, ...]
FORECASTS: Mapping[str, Callable[[Schedule], TaylorSeer]] = {
    "stack": lambda schedule: ForecastStack(schedule=schedule),
    "anchored": lambda schedule: ForecastStack(schedule=schedule, anchored=True),
    "order 2": lambda schedule: ForecastStack(schedule=schedule, order=2),
    "branches": lambda schedule: TaylorSeer(schedule=schedule),
}
"""The stream after the last block; how far the blocks move it from its embedding; the stream by its last three values;
every branch's feature, which takes the memory of all of them."""


@dataclass(frozen=True)
class StackTrials(ForecastStack):
    """The `last` of them is under way. Graphs know nothing of schedules: all share them."""

    last: list[TaylorSeer] = field(default_factory=list)

    def start(self) -> CycleClock:
        return self.last[-1].start()


@dataclass(frozen=True)
class BranchTrials(TaylorSeer):
    """The same of branches."""

    last: list[TaylorSeer] = field(default_factory=list)

    def start(self) -> CycleClock:
        return self.last[-1].start()


def trials_of(name: str, schedules: Sequence[Schedule]) -> StackTrials | BranchTrials:
    """Generations of this form, the last one of these schedules under way."""
    made = [FORECASTS[name](schedule) for schedule in schedules]
    first = made[0]
    if isinstance(first, ForecastStack):
        return StackTrials(order=first.order, anchored=first.anchored, last=made)
    return BranchTrials(order=first.order, last=made)
