"""Steps between two full ones run one and the same recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from duca_compile.methods.base import COMPLETE, FULL, Method, Place, Recipe
from duca_compile.methods.check import require_int


@dataclass(frozen=True)
class Cycles:
    """A method gives its `cached` recipe, and is its own clock."""

    NAMES: ClassVar[tuple[str, ...]]

    cycle: int = 5
    """N: one step in `cycle` is FULL, the `cycle - 1` after it are cached. 1 caches nothing."""
    warmup_steps: int = 1
    """The first `warmup_steps` steps of a trajectory are FULL; the last of them opens the first cycle."""

    def __post_init__(self) -> None:
        require_int("cycle", self.cycle, at_least=1)
        require_int("warmup_steps", self.warmup_steps, at_least=1)

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
        return place.step < self.warmup_steps or place.since >= self.cycle

    def without_cuts(self) -> Method | None:
        return None if self.cached.cut else self

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return (1.0,)
