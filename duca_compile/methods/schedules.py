"""Which steps are full: in even cycles, denser where generations bend, or a given list.

Full steps at the ends are worth more than those in the middle: what a step changes is largest in the first steps of a
generation and in the last ones, under every sampler that was measured (`benchmarks/quality.py`).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from duca_compile.methods.base import Place
from duca_compile.methods.check import OptionError, require_choice, require_int

START, START_WIDTH = 2.0, 0.1
END, END_WIDTH = 4.0, 0.06
"""How much denser full steps lie at the start and at the end than in the middle, and over which share of the steps
that falls to a third."""


@dataclass(frozen=True)
class Even:
    """One step in `cycle`."""

    cycle: int

    def is_full(self, place: Place) -> bool:
        return place.since >= self.cycle


@dataclass(frozen=True)
class DenseEnds:
    """One step in `cycle` on average, closer together at both ends; even ones where nothing tells the progress."""

    cycle: int

    def is_full(self, place: Place) -> bool:
        """Whether the next full step is due, to the nearest step."""
        now, before = place.progress, place.progress_at_full
        if now is None or before is None or now <= before:
            return place.since >= self.cycle
        density = (full_steps_before(now) - full_steps_before(before)) / (now - before)
        return place.since * density >= self.cycle - 0.5


def full_steps_before(progress: float) -> float:
    """The share of the full steps that lie before: the integral of their density, which is 1 on average."""
    start = START * START_WIDTH * (1 - math.exp(-progress / START_WIDTH))
    end = END * END_WIDTH * (math.exp((progress - 1) / END_WIDTH) - math.exp(-1 / END_WIDTH))
    whole = (
        1 + START * START_WIDTH * (1 - math.exp(-1 / START_WIDTH)) + END * END_WIDTH * (1 - math.exp(-1 / END_WIDTH))
    )
    return (progress + start + end) / whole


@dataclass(frozen=True)
class Listed:
    """The `full` steps of a trajectory, counted from 0, rising. After the last one, as far apart as any before."""

    full: tuple[int, ...]

    def is_full(self, place: Place) -> bool:
        if place.step <= self.full[-1]:
            return place.step in self.full
        return place.since >= max(after - before for before, after in itertools.pairwise((0, *self.full)))


Schedule = Even | DenseEnds | Listed
SCHEDULES: dict[str, type[Even] | type[DenseEnds]] = {"even": Even, "dense-ends": DenseEnds}


def schedule(given: str | Sequence[int], cycle: int) -> Schedule:
    """What the option `schedule` names or lists. Raises `OptionError`."""
    if isinstance(given, str):
        require_choice("schedule", given, (*SCHEDULES, "a list of the full steps"))
        return SCHEDULES[given](cycle)
    full: tuple[int, ...] = tuple(given) if isinstance(given, (list, tuple)) else ()
    for step in full:
        require_int("a step of schedule", step, at_least=0)
    if not full or list(full) != sorted(set(full)) or full[-1] == 0:
        names = " or ".join(map(repr, SCHEDULES))
        raise OptionError(f"schedule must be {names}, or list full steps that rise, counted from 0, not {given!r}")
    return Listed(full)
