"""Recipes that reuse attentions of some kinds: across space, across time, and to the prompt."""

import itertools
import math
from collections.abc import Collection

from duca_compile.analysis.facts import Branch, Facts
from duca_compile.methods.base import Action, Recipe

SPATIAL, TEMPORAL, CROSS = "spatial", "temporal", "cross"
SELF = "self"
"""Spatial and temporal ones."""


def kind_of(at: int, facts: Facts) -> str | None:
    """Of the branch at this position: where a stream has attentions of two structures, the first is the spatial one.

    None where it does not attend, or does more than that.
    """
    branch = facts.branches[at]
    if branch.kind == "cross-attention":
        return CROSS
    if branch.kind != "attention":
        return None
    size = math.prod(branch.shape)  # a stream may change its layout between the two
    attending = [each for each in facts.branches if each.kind == "attention" and math.prod(each.shape) == size]
    return SPATIAL if branch.fingerprint == attending[0].fingerprint else TEMPORAL


def reusing(kinds: Collection[str], gated: bool) -> Recipe:
    def decide(at: int, branch: Branch, facts: Facts) -> Action:
        kind = kind_of(at, facts)
        return Action.REUSE if kind in kinds or (kind in (SPATIAL, TEMPORAL) and SELF in kinds) else Action.COMPUTE

    return Recipe(name_of(kinds), decide, gated=gated, part=True)


def all_reusing(kinds: Collection[str], gated: bool) -> tuple[Recipe, ...]:
    """One for each choice of kinds."""
    chosen = (each for count in range(1, len(kinds) + 1) for each in itertools.combinations(kinds, count))
    return tuple(reusing(each, gated) for each in chosen)


def name_of(kinds: Collection[str]) -> str:
    """Of the recipe that reuses attentions of these kinds, in the order given."""
    return "-".join(["reuse", *kinds])
