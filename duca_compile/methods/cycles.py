"""Full steps by a schedule; between two of them, a method's cached recipes."""

from dataclasses import dataclass
from functools import cached_property

from duca_compile.methods.base import COMPLETE, FULL, Held, Method, Place, Recipe
from duca_compile.methods.check import OptionError, is_number, require_int
from duca_compile.methods.schedules import Adaptive, Schedule, schedule


@dataclass(frozen=True)
class Cycles(Held):
    """A method gives its `cached` recipe, or says of each place `cached_at` which of several it is."""

    cycle: int = 5
    """N: one step in `cycle` is FULL, the `cycle - 1` after it are cached. 1 caches nothing."""
    warmup_steps: int = 1
    """The first `warmup_steps` steps of a trajectory are FULL; the last of them opens the first cycle."""
    schedule: str | tuple[int, ...] = "even"
    """Where FULL steps lie: `even` cycles; `dense-ends` or `dense-start`, which are `cycle` long on average; a list of
    the steps; `force-fresh`, the rule of ToCa's and DuCa's code for DiT; or `adaptive`: dense ends, closer together or
    further apart as forecasts turn out."""
    tolerance: float = Adaptive.tolerance
    """Of the schedule `adaptive`: how far off a cached step may be, as a share of what the model predicts."""

    def __post_init__(self) -> None:
        if isinstance(self.schedule, list):
            object.__setattr__(self, "schedule", tuple(self.schedule))
        require_int("cycle", self.cycle, at_least=1)
        require_int("warmup_steps", self.warmup_steps, at_least=1)
        if not is_number(self.tolerance) or not self.tolerance > 0:
            raise OptionError(f"tolerance must be a number above 0, not {self.tolerance!r}")
        self._schedule  # noqa: B018 - checks it

    @property
    def cached(self) -> Recipe:
        raise NotImplementedError

    def cached_at(self, place: Place) -> str:
        return self.cached.name

    def recipes(self) -> tuple[Recipe, ...]:
        return (COMPLETE,) if self.cycle == 1 else (COMPLETE, self.cached)

    def start(self) -> "CycleClock":
        return CycleClock(self, self._schedule.start())

    @cached_property
    def _schedule(self) -> Schedule:
        return schedule(self.schedule, self.cycle, self.tolerance)

    def without_cuts(self) -> Method | None:
        return None if self.cached.cut else self


@dataclass
class CycleClock:
    """`schedule` may remember what it saw of this trajectory."""

    method: Cycles
    schedule: Schedule

    def next(self, place: Place) -> str:
        method = self.method
        full = place.step < method.warmup_steps or method.cycle == 1 or self.schedule.is_full(place)
        return FULL if full else method.cached_at(place)
