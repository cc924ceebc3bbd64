"""Delta-DiT (arXiv 2406.01125): a part of the blocks is left out, and how far it moved the stream is kept.

The rear blocks while an outline is drawn, the front ones while details are.
"""

from dataclasses import dataclass

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.base import COMPLETE, Action, Place, Recipe
from duca_compile.methods.check import OptionError, is_number, require_int
from duca_compile.methods.cycles import Cycles


@dataclass(frozen=True)
class DeltaDiT(Cycles):
    """The other blocks are computed at every step."""

    cycle: int = 2
    front: int = 0
    """How many blocks the front part has; 0 stands for half of them."""
    rear_share: float = 0.5
    """The share of a generation's steps in which the rear blocks are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("front", self.front, at_least=0)
        if not is_number(self.rear_share) or not 0 <= self.rear_share <= 1:
            raise OptionError(f"rear_share must be a share from 0 to 1, not {self.rear_share!r}")

    def recipes(self) -> tuple[Recipe, ...]:
        if self.cycle == 1:
            return (COMPLETE,)
        found = [COMPLETE]
        if self.rear_share > 0:
            found.append(Recipe("without-rear", self._rear, cut=True, anchored=True, part=True, needs_all=True))
        if self.rear_share < 1:
            found.append(Recipe("without-front", self._front, cut=True, anchored=True, part=True, needs_all=True))
        return tuple(found)

    def cached_at(self, place: Place) -> str:
        return "without-rear" if (place.progress or 0.0) < self.rear_share else "without-front"

    def without_cuts(self) -> None:
        return None

    def _rear(self, at: int, branch: Branch, facts: Facts) -> Action:
        return Action.COMPUTE if self._front(at, branch, facts) is Action.SKIP else Action.SKIP

    def _front(self, at: int, branch: Branch, facts: Facts) -> Action:
        count = self.front or len(facts.blocks) // 2
        return Action.SKIP if any(at in block for block in facts.blocks[:count]) else Action.COMPUTE
