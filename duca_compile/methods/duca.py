"""DuCa (arXiv 2412.18911): conservative and aggressive steps between full ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.base import COMPLETE, FULL, Action, Place, Recipe, Refresh, always
from duca_compile.methods.check import require_choice
from duca_compile.methods.cycles import Cycles
from duca_compile.methods.expansion import ORDERS as FORECAST_ORDERS
from duca_compile.methods.expansion import expanded


class Mode(str, Enum):
    """What a denoising step runs (section IV-B): the recipes of DuCa by their names."""

    FULL = FULL
    """Compute every token of every branch and store the features."""
    CONSERVATIVE = "conservative"
    """Recompute a few tokens of every branch that allows it, reuse the stored features for the rest."""
    AGGRESSIVE = "aggressive"
    """Run no block: the stream stored at the last non-aggressive step enters the final layer."""


ORDERS = {
    "conservative-first": (Mode.CONSERVATIVE, Mode.AGGRESSIVE),
    "aggressive-first": (Mode.AGGRESSIVE, Mode.CONSERVATIVE),
    "conservative": (Mode.CONSERVATIVE, Mode.CONSERVATIVE),
    "aggressive": (Mode.AGGRESSIVE, Mode.AGGRESSIVE),
}
DEPTHS = ("all", "all-but-last")


@dataclass(frozen=True)
class DuCa(Cycles):
    """The defaults are the paper's (sections IV-C and V)."""

    NAMES: ClassVar[tuple[str, ...]] = tuple(mode.value for mode in Mode)

    order: str = "conservative-first"
    """Which cached recipe follows a FULL step; the two alternate. `conservative` and `aggressive` alone use one."""
    aggressive_depth: str = "all"
    """AGGRESSIVE skips `all` blocks, or `all-but-last` (equation 3 read literally)."""
    cache_ratio: float = Refresh.cache_ratio
    """R: the share of tokens that a CONSERVATIVE step takes from the cache; it recomputes `floor((1 - R) * tokens)`."""
    selection: str = Refresh.selection
    """Tokens are drawn for every `branch` of a step (the paper's way), or once for a `step`."""
    seed: int = Refresh.seed
    """Seeds the random choice of tokens; every trajectory draws the same sequence."""
    forecast: int = 0
    """The order of the forecast of what cached steps do not compute: 0 takes what was stored last, as the paper does.

    Above 0 what a CONSERVATIVE step recomputes is used in that step alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refresh  # noqa: B018 - checks it
        require_choice("order", self.order, tuple(ORDERS))
        require_choice("aggressive_depth", self.aggressive_depth, DEPTHS)
        require_choice("forecast", self.forecast, FORECAST_ORDERS)

    def recipes(self) -> tuple[Recipe, ...]:
        used = ORDERS[self.order][: self.cycle - 1]
        history = self.forecast + 1
        conservative = Recipe(Mode.CONSERVATIVE.value, always(Action.REFRESH), history=history, refresh=self._refresh)
        aggressive = Recipe(Mode.AGGRESSIVE.value, self._skipped, cut=True, history=history)
        return (COMPLETE, *(recipe for recipe in (conservative, aggressive) if recipe.name in used))

    def cached_at(self, place: Place) -> str:
        return ORDERS[self.order][(place.since - 1) % 2].value

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return expanded(stored, now, self.forecast)

    def without_cuts(self) -> "DuCa | None":
        used = ORDERS[self.order][: self.cycle - 1]
        without = replace(self, order="conservative")
        return without if Mode.CONSERVATIVE in used else None

    @property
    def _refresh(self) -> Refresh:
        return Refresh(self.cache_ratio, self.selection, self.seed)

    def _skipped(self, at: int, branch: Branch, facts: Facts) -> Action:
        kept = self.aggressive_depth == "all-but-last" and at in facts.blocks[-1]
        return Action.COMPUTE if kept else Action.SKIP
