"""FORA (arXiv 2407.01425): between full steps, every branch takes the feature that was stored last."""

from dataclasses import dataclass

from duca_compile.methods.base import Action, Recipe, always
from duca_compile.methods.cycles import Cycles


@dataclass(frozen=True)
class FORA(Cycles):
    """Gates and modulation are those of the step at hand."""

    @property
    def cached(self) -> Recipe:
        return Recipe("reuse", always(Action.REUSE))
