"""TaylorSeer (arXiv 2503.06923): features are forecast from those of the last full steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from duca_compile.methods.base import Action, Recipe, always
from duca_compile.methods.check import require_at_least_0, require_choice
from duca_compile.methods.cycles import Cycles
from duca_compile.methods.expansion import ORDERS, expanded


@dataclass(frozen=True)
class TaylorSeer(Cycles):
    """Every branch's feature before its gate is forecast."""

    order: int = 1
    """Of the expansion, over the last `order + 1` stored values; of a lower one where fewer are known. 0 holds."""

    slope: float = 1.0
    """How much of the change that the expansion foresees is taken: below 1, a forecast falls short of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("order", self.order, ORDERS)
        require_at_least_0("slope", self.slope)

    @property
    def cached(self) -> Recipe:
        return Recipe("forecast", always(Action.FORECAST), history=self.order + 1)

    def weights(self, stored: Sequence[int], now: int) -> tuple[float, ...]:
        _, *before = expanded(stored, now, self.order)
        taken = [self.slope * weight for weight in before]
        return (1.0 - sum(taken), *taken)
