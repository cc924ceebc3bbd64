"""PAB (arXiv 2408.12588): in the middle of a generation attentions are reused, each kind for a time of its own."""

from dataclasses import dataclass, replace

from duca_compile.methods.attention_kinds import CROSS, SPATIAL, TEMPORAL, all_reusing, name_of
from duca_compile.methods.base import COMPLETE, FULL, Held, Place, Recipe
from duca_compile.methods.check import OptionError, numbers, require_int


@dataclass(frozen=True)
class PAB(Held):
    """What an attention adds to the stream is kept, gate and all; the rest is computed at every step."""

    spatial: int = 2
    """Of so many steps in a row, one computes the attentions across space; 1 reuses none."""
    temporal: int = 4
    """The same of attentions across time, of models that have both."""
    cross: int = 6
    """The same of cross-attention."""
    window: tuple[float, float] = (0.07, 0.55)
    """Between which shares of a generation's steps attentions are reused: timesteps 930 to 450 of 1,000."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", numbers("window", self.window))
        for name in (SPATIAL, TEMPORAL, CROSS):
            require_int(name, getattr(self, name), at_least=1)
        if len(self.window) != 2 or not 0 <= self.window[0] <= self.window[1] <= 1:
            raise OptionError(f"window must be two rising shares from 0 to 1, not {self.window!r}")

    @property
    def periods(self) -> dict[str, int]:
        """Of the kinds that are reused."""
        found = {kind: getattr(self, kind) for kind in (SPATIAL, TEMPORAL, CROSS)}
        return {kind: period for kind, period in found.items() if period > 1}

    def recipes(self) -> tuple[Recipe, ...]:
        apart = self.spatial != self.temporal
        return COMPLETE, *(replace(each, needs_all=apart) for each in all_reusing(tuple(self.periods), gated=True))

    def start(self) -> "PAB":
        return self

    def next(self, place: Place) -> str:
        first, last = self.window
        if place.progress is None or not first < place.progress < last:
            return FULL
        reused = [kind for kind, period in self.periods.items() if place.step % period]
        return name_of(reused) if reused else FULL

    def without_cuts(self) -> "PAB":
        return self
