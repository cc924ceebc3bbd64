"""MagCache (arXiv 2506.09045): blocks are left out as long as their change of the stream is known to stay as large."""

from dataclasses import dataclass

from duca_compile.methods.base import COMPLETE, FULL, Held, Place, Recipe, without_blocks
from duca_compile.methods.check import OptionError, numbers, require_at_least_0, require_int

NEEDED = (
    "method='magcache' needs `ratios`: for each step of a generation, the mean size of what the blocks add to the "
    "stream, over that of the step before (of the first step 1), as some generations with all steps computed show it"
)


@dataclass(frozen=True)
class MagCache(Held):
    """How far the blocks moved the stream is kept, and added to the embedding of the step at hand."""

    ratios: tuple[float, ...] = ()
    """One for each step, the first 1; of another number of steps, those nearest in progress are taken."""
    threshold: float = 0.24
    """How far the product of the ratios since the last full step may stray from 1, summed over the steps since."""
    longest: int = 5
    """The most cached steps in a row."""
    retention: float = 0.2
    """The share of a generation's steps, its first ones, that are full."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", numbers("ratios", self.ratios))
        if not all(each > 0 for each in self.ratios):
            raise OptionError(f"ratios must be numbers above 0, not {self.ratios!r}")
        require_int("longest", self.longest, at_least=1)
        for name in ("threshold", "retention"):
            require_at_least_0(name, getattr(self, name))

    def recipes(self) -> tuple[Recipe, ...]:
        if not self.ratios:
            raise OptionError(NEEDED)
        return COMPLETE, without_blocks("skip")

    def start(self) -> "MagClock":
        return MagClock(self)

    def without_cuts(self) -> None:
        return None


@dataclass
class MagClock:
    """What has added up since the last full step."""

    method: MagCache
    product: float = 1.0
    strayed: float = 0.0

    def next(self, place: Place) -> str:
        method = self.method
        if place.since <= 1:
            self.product, self.strayed = 1.0, 0.0
        if not place.step or place.progress is None or place.progress < method.retention:
            return FULL
        at = place.step if place.steps == len(method.ratios) else round(place.progress * len(method.ratios))
        self.product *= method.ratios[min(at, len(method.ratios) - 1)]
        self.strayed += abs(1 - self.product)
        return FULL if self.strayed >= method.threshold or place.since > method.longest else "skip"
