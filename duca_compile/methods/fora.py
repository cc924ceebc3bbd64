"""FORA (arXiv 2407.01425): between full steps, every branch takes the feature that was stored last."""

from dataclasses import dataclass
from typing import ClassVar

from duca_compile.methods.base import FULL, Action, Recipe, always
from duca_compile.methods.cycles import Cycles


@dataclass(frozen=True)
class FORA(Cycles):
    """Gates and modulation are those of the step at hand."""

    NAMES: ClassVar[tuple[str, ...]] = (FULL, "reuse")

    @property
    def cached(self) -> Recipe:
        return Recipe("reuse", always(Action.REUSE))
