"""What a caching method is: recipes, one graph each, and a clock that picks one of them for each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from torch import fx

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.refresh import OF_THE_PAPER, Refresh


class Action(Enum):
    """What a recipe does with one branch."""

    COMPUTE = "compute"
    REFRESH = "recompute selected tokens, take the rest from the cache, or combine what was stored last"
    FORECAST = "combine the last features that were stored"
    REUSE = "take the feature that was stored last"
    SKIP = "leave it out: the stream is cut after it"


@dataclass(frozen=True)
class Recipe:
    """What one graph does. `decide` says it of a branch, by its position among all.

    `cut`: what the skipped branches make of the stream is taken from the cache, after the last of them; `anchored`: not
    the stream, but how far they moved it. `history`: how many stored values a `FORECAST`, a `REFRESH` or a cut takes
    together; 1 takes the last one as it is. `gated`: a `REUSE` takes what was added to the stream, gate and all.
    `part`: whether it means to leave some branches to be computed. `needs_all`: whether what it does with a branch
    depends on the others of the model, so that these have to be in one graph.
    """

    name: str
    decide: Callable[[int, Branch, Facts], Action]
    cut: bool = False
    history: int = 1
    anchored: bool = False
    gated: bool = False
    part: bool = False
    needs_all: bool = False
    refresh: Refresh = OF_THE_PAPER


FULL = "full"
"""The recipe that every method has: it computes all and stores what others read. It runs wherever there is doubt."""


def always(action: Action) -> Callable[[int, Branch, Facts], Action]:
    return lambda at, branch, facts: action


COMPLETE = Recipe(FULL, always(Action.COMPUTE))


def without_blocks(name: str) -> Recipe:
    """How far all blocks moved the stream is kept, and added to the embedding of the step at hand."""
    return Recipe(name, always(Action.SKIP), cut=True, anchored=True)


@dataclass(frozen=True)
class Probe:
    """A value that a small graph computes at every step, before its recipe is chosen, and compares with that of a step
    before: the last one, or (`since_full`) the last FULL one. No recipe may change how the value is computed.

    `value` finds it in the captured graph, to which it may add nodes; it raises `Refused` where there is none.
    """

    value: Callable[[fx.Graph, Facts], fx.Node]
    since_full: bool


class Place(NamedTuple):
    """Where a step of a trajectory stands."""

    step: int
    """Counted from 0 where the trajectory began or started over."""
    since: int
    """How many steps after the last FULL one, by turn or not."""
    progress: float | None = None
    """The share of the generation's steps that lie behind; None where nothing tells it."""
    progress_at_full: float | None = None
    """The same at the last FULL step."""
    miss: Callable[[], float | None] = lambda: None
    """How far the cached step before the last FULL one was off, as a share of what the model predicted; None where
    nothing tells it."""
    distance: float | None = None
    """How far the value of the method's probe is from that of a step before, relative to it; None where it has none, or
    none is known of a step before."""
    before: int = 0
    """How many steps of the generation lie before the one where its trajectory started over."""

    @property
    def steps(self) -> int | None:
        """How many steps the generation has, from the one on that counts as 0; None where nothing tells it yet."""
        done = self.before + self.step
        return round(done / self.progress) - self.before if done and self.progress else None

    def later(self, steps: int, total: int) -> "Place":
        """So many cached steps after this one, in a generation of `total` steps as they are counted here."""
        step, full, whole = self.step + steps, self.step - self.since, self.before + total
        progress, at_full = ((self.before + at) / whole for at in (step, full))
        return Place(step, self.since + steps, progress, at_full, before=self.before)


class Clock(Protocol):
    """Of one trajectory. It may count and remember; a method that depends on the place of a step alone is its own."""

    def next(self, place: Place) -> str:
        """The name of the recipe of the step at `place`."""


class Method(Protocol):
    """A frozen dataclass; its fields are its options, and raise `OptionError` where they make no sense."""

    @property
    def probe(self) -> Probe | None:
        """What the clock has to see of a step before it names a recipe."""

    def recipes(self) -> tuple[Recipe, ...]:
        """Those that its clock may name, the complete one first."""

    def start(self) -> Clock: ...

    def without_cuts(self) -> "Method | None":
        """The same for a model from which no stream can be cut; None where that is nothing."""

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        """Of the values that were stored at the calls `stored` of the trajectory, the last one first, in a forecast for
        the call `now`. They sum to 1."""


class Held:
    """A method that takes what was stored last as it is, and needs to see nothing of a step."""

    probe: Probe | None = None

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return (1.0,)


def even(method: Method, steps: int) -> list[str]:
    """The recipes of a generation of so many steps, all of one length."""
    clock, full, names = method.start(), 0, list[str]()
    for step in range(steps):
        names.append(clock.next(Place(step, step - full, step / steps, full / steps)))
        full = step if names[-1] == FULL else full
    return names
