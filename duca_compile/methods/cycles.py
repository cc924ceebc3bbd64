"""Steps between two full ones run one and the same recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from duca_compile.methods.base import COMPLETE, FULL, Method, Place, Recipe
from duca_compile.methods.check import require_int
from duca_compile.methods.schedules import Schedule, schedule


@dataclass(frozen=True)
class Cycles:
    """A method gives its `cached` recipe, and is its own clock."""

    NAMES: ClassVar[tuple[str, ...]]

    cycle: int = 5
    """N: one step in `cycle` is FULL, the `cycle - 1` after it are cached. 1 caches nothing."""
    warmup_steps: int = 1
    """The first `warmup_steps` steps of a trajectory are FULL; the last of them opens the first cycle."""
    schedule: str | tuple[int, ...] = "even"
    """Where FULL steps lie: `even` cycles, `dense-ends`, which are `cycle` long on average, or a list of the steps."""

    def __post_init__(self) -> None:
        if isinstance(self.schedule, list):
            object.__setattr__(self, "schedule", tuple(self.schedule))
        require_int("cycle", self.cycle, at_least=1)
        require_int("warmup_steps", self.warmup_steps, at_least=1)
        self._schedule  # noqa: B018 - checks it

    @property
    def cached(self) -> Recipe:
        raise NotImplementedError

    def recipes(self) -> tuple[Recipe, ...]:
        return (COMPLETE,) if self.cycle == 1 else (COMPLETE, self.cached)

    def start(self) -> "Cycles":
        return self

    def next(self, place: Place) -> str:
        return FULL if self.is_full(place) else self.cached.name

    def is_full(self, place: Place) -> bool:
        return place.step < self.warmup_steps or self.cycle == 1 or self._schedule.is_full(place)

    @cached_property
    def _schedule(self) -> Schedule:
        return schedule(self.schedule, self.cycle)

    def without_cuts(self) -> Method | None:
        return None if self.cached.cut else self

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return (1.0,)
