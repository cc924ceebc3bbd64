"""Says, once, where no schedule makes a model twice as fast: more than half of a full step runs in every recipe."""

import weakref
from collections.abc import Mapping

from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.refusal import warn

LOOK = "duca_compile.explain(model, ...) lists what was found in it, and what was not and why"
_told: "weakref.WeakSet[object]" = weakref.WeakSet()


def in_every_mode(flops: Mapping[str, int]) -> float:
    """The share of a full step's FLOPs that runs even by the cheapest recipe."""
    return min(flops.values()) / max(1, flops[FULL])


def is_partly(share: float) -> bool:
    """Whether a model of which this share runs in every recipe is accelerated only partly."""
    return share > 0.5


def warn_partly(who: object, flops: Mapping[str, int], options: Options, advice: str) -> None:
    """For `flops` of a step in each recipe that the options use. `who` hears of it once.

    Not where the options themselves ask for it: no recipe but those that compute half of the tokens, or some branches.
    """
    share = in_every_mode(flops)
    recipes = options.method.recipes()
    half = not any(recipe.cut for recipe in recipes) and any(each.refresh.cache_ratio < 0.5 for each in recipes)
    asked_for = half or any(recipe.part for recipe in recipes)
    if not is_partly(share) or asked_for or who in _told:
        return
    _told.add(who)
    warn(
        f"duca accelerates this model only partly: {share:.0%} of the FLOPs of a full step run in every recipe, so "
        f"that no schedule makes it more than {1 / share:.1f}x as fast. {advice}"
    )
