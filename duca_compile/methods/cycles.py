"""One step in a cycle is computed whole, the others run one and the same recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from duca_compile.methods.base import COMPLETE, FULL, Method, Recipe
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

    @property
    def opening(self) -> int:
        return self.warmup_steps - 1

    def recipes(self) -> tuple[Recipe, ...]:
        return (COMPLETE,) if self.cycle == 1 else (COMPLETE, self.cached)

    def start(self) -> "Cycles":
        return self

    def next(self, step: int) -> str:
        return self.cached.name if self.position(step) else FULL

    def position(self, step: int) -> int:
        """How many steps of its cycle came before a step; 0 of a FULL one."""
        return max(step - self.opening, 0) % self.cycle

    def without_cuts(self) -> Method | None:
        return None if self.cached.cut else self

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return (1.0,)
