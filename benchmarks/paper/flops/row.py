"""What a row of the paper's tables is: a method, the recipe of each step, and what is printed."""

from collections.abc import Sequence
from dataclasses import dataclass

from duca_compile import Options
from duca_compile.methods.base import Method, Recipe
from duca_compile.methods.cycles import Cycles
from duca_compile.methods.duca import DuCa
from duca_compile.methods.published import PUBLISHED


@dataclass(frozen=True)
class Extra:
    """`flops` that the published code counts in every step, from `first` on and before `stop`, of a recipe whose name
    begins with one of `recipes`, and that our graphs do not have; below 0 what it does not see."""

    what: str
    flops: float
    recipes: tuple[str, ...]
    first: int = 0
    stop: int = 1000

    def at(self, step: int, recipe: str) -> float:
        return self.flops if recipe.startswith(self.recipes) and self.first <= step < self.stop else 0


@dataclass(frozen=True)
class Row:
    """`published`: TFLOPs as printed, or nothing; `base`: those of the model uncached, by which the paper's ratio is.

    `steps`: how many, by the method's own schedule, or the recipe of each. Without a method the setting is not known.
    `printed`: the ratio that the paper prints where its figures have another.
    """

    table: str
    model: str
    base: str
    label: str
    published: str
    method: Method | None
    steps: int | Sequence[str] = 50
    extras: tuple[Extra, ...] = ()
    note: str = ""
    printed: float | None = None

    @property
    def ratio(self) -> float | None:
        return float(self.base) / float(self.published) if self.published else None

    @property
    def ran(self) -> Sequence[str]:
        if not isinstance(self.steps, int):
            return self.steps
        return sequence(self.method, self.steps) if self.method else ()


def sequence(method: Method, steps: int) -> list[str]:
    return Options(method=method).sequence(steps)


def preset(name: str) -> DuCa:
    """DuCa or ToCa as of the preset of this name, whose fields rows replace."""
    found = PUBLISHED[name]
    assert isinstance(found, DuCa)
    return found


UNCACHED = DuCa(1)
"""Every step is full."""


@dataclass(frozen=True)
class Beside(Cycles):
    """A method, and recipes beside its own, which published code runs."""

    method: Method = UNCACHED
    more: tuple[Recipe, ...] = ()

    def recipes(self) -> tuple[Recipe, ...]:
        return (*self.method.recipes(), *self.more)

    def without_cuts(self) -> None:
        return None
