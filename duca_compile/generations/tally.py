"""How the steps of a generation ran, and why those were FULL that were."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from duca_compile.methods.base import FULL

FIRST = "first of a generation"
OVER = "started over"
SCHEDULED = "by the method"
LONG = "the timestep moved too far"
FAR = "too far from the last full step"
NOISE = "fresh noise since the last full step"


class Choice(NamedTuple):
    """The recipe of a step, and `why` it is FULL where it is: one of the reasons above."""

    recipe: str
    why: str = SCHEDULED


@dataclass(eq=False)
class Tally:
    """How many `steps` ran by each recipe, and how many of the FULL ones for which reason."""

    steps: Counter[str] = field(default_factory=Counter)
    full: Counter[str] = field(default_factory=Counter)

    def add(self, choice: Choice, times: int = 1) -> None:
        self.steps[choice.recipe] += times
        if choice.recipe == FULL:
            self.full[choice.why] += times
