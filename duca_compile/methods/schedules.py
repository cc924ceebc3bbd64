"""Which steps are full: in even cycles, denser where generations bend, a list, a rule, or as forecasts turn out.

Full steps at the ends are worth more than those in the middle: what a step changes is largest in the first steps of a
generation and in the last ones, under every sampler that was measured (`python benchmarks quality`).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from duca_compile.methods.base import Place
from duca_compile.methods.check import OptionError, require_choice, require_int


class Schedule(Protocol):
    """Of one trajectory."""

    def start(self) -> "Schedule":
        """For another one."""

    def is_full(self, place: Place) -> bool: ...


@dataclass(frozen=True)
class Stateless:
    """The place alone decides."""

    def start(self) -> "Stateless":
        return self

    def is_full(self, place: Place) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Even(Stateless):
    """One step in `cycle`."""

    cycle: int

    def is_full(self, place: Place) -> bool:
        return place.since >= self.cycle


@dataclass(frozen=True)
class Dense(Stateless):
    """One step in `cycle` on average, closer together where the density is higher; even ones where nothing tells the
    progress. `before`: the share of the full steps that lie before a progress: the integral of their density."""

    cycle: float
    before: Callable[[float], float]

    def is_full(self, place: Place) -> bool:
        """Whether the next full step is due, to the nearest step."""
        now, last = place.progress, place.progress_at_full
        if now is None or last is None or now <= last:
            return place.since >= self.cycle
        density = (self.before(now) - self.before(last)) / (now - last)
        return place.since * density >= self.cycle - 0.5


START, START_WIDTH = 2.0, 0.1
END, END_WIDTH = 4.0, 0.06
"""How much denser full steps lie at the start and at the end than in the middle, and over which share of the steps
that falls to a third."""
POWER = 1.25
"""Of a dense start: the j-th of K full steps lies at the progress `(j / K) ** POWER`."""


def full_steps_before(progress: float) -> float:
    """Of dense ends."""
    start = START * START_WIDTH * (1 - math.exp(-progress / START_WIDTH))
    end = END * END_WIDTH * (math.exp((progress - 1) / END_WIDTH) - math.exp(-1 / END_WIDTH))
    whole = (
        1 + START * START_WIDTH * (1 - math.exp(-1 / START_WIDTH)) + END * END_WIDTH * (1 - math.exp(-1 / END_WIDTH))
    )
    return (progress + start + end) / whole


def of_dense_start(progress: float) -> float:
    return math.pow(progress, 1 / POWER)


@dataclass(frozen=True)
class ForceFresh(Stateless):
    """As in the published code for DiT (`ToCa-DDIM-50`): steps counted down to 0 of which the multiples of a threshold
    are full. The threshold is set anew at each full step: `cycle / (1.4 - 0.8 * left)`, rounded, for the share `left`
    of the steps that come after it; 2 between a tenth and two tenths of them. Even cycles where nothing tells the
    progress."""

    cycle: int

    def is_full(self, place: Place) -> bool:
        steps, last = place.steps, place.step - place.since
        if steps is None:
            return place.since >= self.cycle
        left = (steps - 1 - last) / steps
        threshold = 2 if 0.2 <= left < 0.4 else max(1, round(self.cycle / (1.4 - 0.8 * left)))
        return (steps - 1 - place.step) % threshold == 0


@dataclass
class Adaptive:
    """Dense ends, scaled by what full steps show: how far the cached step before was off.

    A forecast's error grows with the square of the way from the last full step, and what lies ahead is only alike to
    what was seen; so each full step corrects the length of cycles by the fourth root of the ratio, and not by much:
    forecasts from full steps at uneven distances are worse.
    """

    cycle: float
    tolerance: float = 0.1
    scale: float = field(default=1.0, init=False)

    MOST = 1.15
    """By which a cycle changes at once."""
    LONGEST = 3.0
    """By which it changes in all."""

    def start(self) -> "Adaptive":
        return Adaptive(self.cycle, self.tolerance)

    def is_full(self, place: Place) -> bool:
        miss = place.miss() if place.since == 1 else None
        if miss:
            change = (self.tolerance / miss) ** 0.25
            self.scale *= min(max(change, 1 / self.MOST), self.MOST)
            self.scale = min(max(self.scale, 1 / self.LONGEST), self.LONGEST)
        return Dense(self.cycle * self.scale, full_steps_before).is_full(place)


@dataclass(frozen=True)
class Listed(Stateless):
    """The `full` steps of a trajectory, counted from 0, rising. After the last one, as far apart as any before."""

    full: tuple[int, ...]

    def is_full(self, place: Place) -> bool:
        if place.step <= self.full[-1]:
            return place.step in self.full
        return place.since >= max(after - before for before, after in itertools.pairwise((0, *self.full)))


NAMED: dict[str, Callable[[int, float], Schedule]] = {
    "even": lambda cycle, tolerance: Even(cycle),
    "dense-ends": lambda cycle, tolerance: Dense(cycle, full_steps_before),
    "dense-start": lambda cycle, tolerance: Dense(cycle, of_dense_start),
    "force-fresh": lambda cycle, tolerance: ForceFresh(cycle),
    "adaptive": Adaptive,
}


def schedule(given: str | Sequence[int], cycle: int, tolerance: float) -> Schedule:
    """What the option `schedule` names or lists. Raises `OptionError`."""
    if isinstance(given, str):
        require_choice("schedule", given, (*NAMED, "a list of the full steps"))
        return NAMED[given](cycle, tolerance)
    full: tuple[int, ...] = tuple(given) if isinstance(given, (list, tuple)) else ()
    for step in full:
        require_int("a step of schedule", step, at_least=0)
    if not full or list(full) != sorted(set(full)) or full[-1] == 0:
        names = ", ".join(map(repr, NAMED))
        raise OptionError(
            f"schedule must be one of {names}, or list full steps that rise, counted from 0, not {given!r}"
        )
    return Listed(full)
