"""Which tokens a `REFRESH` recomputes, and how many."""

import math
from dataclasses import dataclass
from fractions import Fraction

from duca_compile.analysis.facts import Facts
from duca_compile.methods.check import OptionError, is_number, require_choice, require_int
from duca_compile.methods.ratios import RATIOS, exact
from duca_compile.methods.selectors import NAMES, RANDOM

SELECTIONS = ("branch", "step")
NO_SELECTION = (
    "selection cannot be 'random', which is the default of `selector`; it says whether tokens are drawn anew for each "
    "'branch' of a step (the default, and the paper's way) or once for the 'step'"
)
LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Refresh:
    """`cache_ratio` is R: `floor((1 - R) * tokens)` are recomputed, times the factors that `ratios` names.

    They are drawn at random for every `branch` of a step (the paper's way), or once for a `step`: all branches of
    equally many tokens then recompute the same ones, and the host draws and hands over less. Every trajectory draws the
    same sequence, of `seed`. Another `selector` scores them in the graph, the mean over all samples of a call, and
    those of the highest scores are recomputed. `staleness` is then added for each `cycle` of steps that a token waits,
    and `spatial`, times its score, to the highest of each square of `cell` x `cell` tokens. `left`: the share of a
    generation's steps that come after those which run so.
    """

    cache_ratio: float = 0.9
    selection: str = "branch"
    seed: int = 0
    ratios: str = "uniform"
    left: float = 0.5
    selector: str = RANDOM
    staleness: float = 0.0
    spatial: float = 0.0
    cell: int = 2
    cycle: int = 5

    def __post_init__(self) -> None:
        if not is_number(self.cache_ratio):
            raise OptionError(f"cache_ratio must be a number from 0 to 1, not {self.cache_ratio!r}")
        if not 0 <= self.cache_ratio <= 1:
            raise OptionError(f"cache_ratio must lie from 0 to 1, not {self.cache_ratio}")
        if self.selection == "random":
            raise OptionError(NO_SELECTION)
        require_choice("selection", self.selection, SELECTIONS)
        require_choice("ratios", self.ratios, tuple(RATIOS))
        require_int("seed", self.seed, at_least=0)
        if self.seed > LARGEST_SEED:
            raise OptionError(f"seed must be at most 2**64 - 1, as torch.Generator takes it, not {self.seed}")

        require_choice("selector", self.selector, NAMES)
        require_int("cell", self.cell, at_least=1)
        for name in ("staleness", "spatial"):
            if not is_number(getattr(self, name)) or not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be a number of at least 0, not {getattr(self, name)!r}")
        if self.selector == RANDOM and (self.staleness or self.spatial):
            raise OptionError("staleness and spatial add to the scores of a selector, and selector is 'random'")
        if self.selector != RANDOM and self.selection != "branch":
            raise OptionError("selection='step' is for selector='random': others score the tokens of each branch")

    def share(self, at: int, facts: Facts) -> Fraction:
        """Of the tokens of the branch at this position, those that are recomputed."""
        return RATIOS[self.ratios].share(1 - exact(self.cache_ratio), at, facts, self.left)


OF_THE_PAPER = Refresh()
