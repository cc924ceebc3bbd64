"""A forecast of the whole stack: the stream after the last block, from that of the last full steps. No block runs.

Of a generation the last `order + 1` values of it are kept, and no feature.
"""

from dataclasses import dataclass, fields

from duca_compile.methods.base import Action, Recipe, always
from duca_compile.methods.check import require_bool
from duca_compile.methods.taylorseer import TaylorSeer


@dataclass(frozen=True)
class ForecastStack(TaylorSeer):
    """`order` and `slope` are as of `TaylorSeer`."""

    anchored: bool = False
    """Forecast how far the blocks move the stream, from the embedding of the step at hand on, not the stream itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bool("anchored", self.anchored)

    def without_cuts(self) -> TaylorSeer:
        """Every branch's feature is forecast instead."""
        return TaylorSeer(**{each.name: getattr(self, each.name) for each in fields(TaylorSeer)})

    @property
    def cached(self) -> Recipe:
        return Recipe("forecast", always(Action.SKIP), cut=True, history=self.order + 1, anchored=self.anchored)
