"""DuCa (arXiv 2412.18911): conservative and aggressive steps between full ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.base import COMPLETE, FULL, Action, Place, Recipe, always
from duca_compile.methods.check import OptionError, require_choice, require_int
from duca_compile.methods.cycles import Cycles
from duca_compile.methods.expansion import ORDERS as FORECAST_ORDERS
from duca_compile.methods.expansion import expanded
from duca_compile.methods.refresh import Refresh


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
    "conservative-last": (Mode.CONSERVATIVE, Mode.AGGRESSIVE),
    "aggressive-last": (Mode.AGGRESSIVE, Mode.CONSERVATIVE),
    "conservative": (Mode.CONSERVATIVE, Mode.CONSERVATIVE),
    "aggressive": (Mode.AGGRESSIVE, Mode.AGGRESSIVE),
}
"""Which recipes take turns, from a FULL step on; of those named so, back from the next one."""
LAST = ("conservative-last", "aggressive-last")
DEPTHS = ("all", "all-but-last")


@dataclass(frozen=True)
class DuCa(Cycles):
    """The defaults are the paper's (sections IV-C and V)."""

    order: str = "conservative-first"
    """Which cached recipe follows a FULL step, or is `last` before the next one; the two alternate. `conservative` and
    `aggressive` alone use one."""
    aggressive_depth: str = "all"
    """AGGRESSIVE skips `all` blocks, or `all-but-last` (equation 3 read literally)."""
    cache_ratio: float = Refresh.cache_ratio
    """R: the share of tokens that a CONSERVATIVE step takes from the cache; it recomputes `floor((1 - R) * tokens)`."""
    selection: str = Refresh.selection
    """Tokens are drawn for every `branch` of a step (the paper's way), or once for a `step`."""
    seed: int = Refresh.seed
    """Seeds the random choice of tokens; every trajectory draws the same sequence."""
    ratios: str = Refresh.ratios
    """By which rule of the published code the share `1 - R` varies: `uniform` not at all, or as for `dit`, `flux`,
    `hidream`, `opensora` or `pixart` (`methods/ratios.py`)."""
    selector: str = Refresh.selector
    """How tokens are chosen: at `random`, or by scores: of `attention`, `key-norm`, `value-norm` or `similarity`, the
    lowest ones where `-min` follows the name (`methods/selectors`)."""
    staleness: float = Refresh.staleness
    """Of another selector than random: what is added to a score for each `cycle` of steps that a token has waited."""
    spatial: float = Refresh.spatial
    """Of another selector than random: what is added to the highest score of a square of tokens, as a share of it."""
    cell: int = Refresh.cell
    """Tokens along an edge of such a square."""
    levels: int = 1
    """Of a rule that varies with the steps: into so many stretches of equal length a generation is cut, each with
    CONSERVATIVE steps of its own, which are compiled apart."""
    forecast: int = 0
    """The order of the forecast of what cached steps do not compute: 0 takes what was stored last, as the paper does.

    Above 0 what a CONSERVATIVE step recomputes is used in that step alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refresh  # noqa: B018 - checks it
        require_choice("order", self.order, tuple(ORDERS))
        require_int("levels", self.levels, at_least=1)
        if self.order in LAST and self.schedule == "adaptive":
            raise OptionError(f"order={self.order!r} needs full steps that are known ahead, and schedule is 'adaptive'")
        require_choice("aggressive_depth", self.aggressive_depth, DEPTHS)
        require_choice("forecast", self.forecast, FORECAST_ORDERS)

    def recipes(self) -> tuple[Recipe, ...]:
        cached, history = self._cached(), self.forecast + 1
        by_layer, last = self.ratios != "uniform", self.aggressive_depth == "all-but-last"
        found = [COMPLETE]
        if Mode.CONSERVATIVE in cached:
            found += [
                Recipe(
                    name,
                    always(Action.REFRESH),
                    history=history,
                    refresh=replace(self._refresh, left=left),
                    needs_all=by_layer,
                )
                for name, left in self._levels.items()
            ]
        if Mode.AGGRESSIVE in cached:
            found.append(Recipe(Mode.AGGRESSIVE.value, self._skipped, cut=True, history=history, needs_all=last))
        return tuple(found)

    def cached_at(self, place: Place) -> str:
        at = place.since - 1 if self.order not in LAST else self._before_full(place)
        mode = ORDERS[self.order][at % 2]
        if mode is not Mode.CONSERVATIVE:
            return str(mode.value)
        level = int((place.progress or 0.0) * self.levels + 1e-6)
        return tuple(self._levels)[min(level, self.levels - 1)]

    def _before_full(self, place: Place) -> int:
        """How many cached steps lie between the place and the next FULL step."""
        total = place.steps
        if total is None:
            return max(self.cycle - 1 - place.since, 0)
        ahead = (later for later in range(1, total - place.step) if self._schedule.is_full(place.later(later, total)))
        return next(ahead, max(total - place.step, 1)) - 1

    @property
    def _levels(self) -> Mapping[str, float]:
        """By the names of the CONSERVATIVE recipes: the share of the steps that comes after the last of theirs."""
        name = Mode.CONSERVATIVE.value
        if self.levels == 1:
            return {name: 0.5}
        return {f"{name}-{level + 1}": 1 - (level + 1) / self.levels for level in range(self.levels)}

    def _cached(self) -> tuple[Mode, ...]:
        """Those that a cycle has room for."""
        if self.cycle == 1:
            return ()
        both = ORDERS[self.order]
        return both if self.cycle > 2 or self.schedule != "even" else both[:1]

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        return expanded(stored, now, self.forecast)

    def without_cuts(self) -> "DuCa | None":
        return replace(self, order="conservative") if Mode.CONSERVATIVE in self._cached() else None

    @property
    def _refresh(self) -> Refresh:
        return Refresh(
            self.cache_ratio, self.selection, self.seed, self.ratios, selector=self.selector, staleness=self.staleness,
            spatial=self.spatial, cell=self.cell, cycle=self.cycle,
        )  # fmt: skip

    def _skipped(self, at: int, branch: Branch, facts: Facts) -> Action:
        kept = self.aggressive_depth == "all-but-last" and at in facts.blocks[-1]
        return Action.COMPUTE if kept else Action.SKIP
