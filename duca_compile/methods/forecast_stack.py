"""A forecast of the whole stack: the stream after the last block, from that of the last full steps. No block runs.

Two values are kept of a generation and no feature. On the trained example it is nearer to the uncached samples than
any method that holds what it keeps (`benchmarks/quality.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

from duca_compile.methods.base import FULL, Action, Recipe, always
from duca_compile.methods.taylorseer import TaylorSeer


@dataclass(frozen=True)
class ForecastStack(TaylorSeer):
    """`order` is as of `TaylorSeer`."""

    NAMES: ClassVar[tuple[str, ...]] = (FULL, "forecast")

    @property
    def cached(self) -> Recipe:
        return Recipe("forecast", always(Action.SKIP), cut=True, history=self.order + 1)
