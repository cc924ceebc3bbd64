"""TeaCache (arXiv 2411.19108): the blocks are left out until the modulated input has moved far enough."""

from dataclasses import dataclass

from duca_compile.analysis.latent_stream import modulated_input
from duca_compile.methods.base import COMPLETE, FULL, Held, Place, Probe, Recipe, without_blocks
from duca_compile.methods.check import OptionError, numbers, require_at_least_0


@dataclass(frozen=True)
class TeaCache(Held):
    """How far the blocks moved the stream is kept, and added to the embedding of the step at hand."""

    threshold: float = 0.25
    """How far the input of the first block may have moved since the last full step, summed over the steps since, as a
    share of its size and by the polynomial."""
    polynomial: tuple[float, ...] = (1.0, 0.0)
    """Of a step's move, the highest power first; fitted for each model in the paper. The default takes it as it is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "polynomial", numbers("polynomial", self.polynomial))
        require_at_least_0("threshold", self.threshold)
        if not self.polynomial:
            raise OptionError("polynomial must have a number at least, and the highest power comes first")

    @property
    def probe(self) -> Probe:  # type: ignore[override]
        return Probe(modulated_input, since_full=False)

    def recipes(self) -> tuple[Recipe, ...]:
        return COMPLETE, without_blocks("skip")

    def start(self) -> "TeaClock":
        return TeaClock(self)

    def without_cuts(self) -> None:
        return None

    def rescaled(self, distance: float) -> float:
        found = 0.0
        for coefficient in self.polynomial:
            found = found * distance + coefficient
        return found


@dataclass
class TeaClock:
    """`moved`: what has added up since the last full step."""

    method: TeaCache
    moved: float = 0.0

    def next(self, place: Place) -> str:
        if place.since <= 1:
            self.moved = 0.0
        last = place.steps is not None and place.step >= place.steps - 1
        if not place.step or place.distance is None or last:
            return FULL
        self.moved += self.method.rescaled(place.distance)
        return FULL if self.moved >= self.method.threshold else "skip"
