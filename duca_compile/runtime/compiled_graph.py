"""One graph of a model as it stands compiled: below all that run it, tell its steps and count them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duca_compile.generations.draw_tokens import RandomTokens
from duca_compile.generations.trajectory import Cache
from duca_compile.plan.plan import Plan
from duca_compile.plan.step_plan import StepPlan
from duca_compile.runtime.arguments import Arguments
from duca_compile.runtime.compiled import CompiledRecipe
from duca_compile.runtime.probe import CompiledProbe


@dataclass(eq=False)
class CompiledGraph:
    """`flops` of a step by each recipe, at the sizes that it was captured at; empty where they could not be counted.
    `held_bytes`: what the cache of one trajectory takes; 0 before the first full step."""

    plan: Plan
    arguments: Arguments
    recipes: dict[str, CompiledRecipe]
    flops: Mapping[str, int]
    held_bytes: int = 0
    probe: CompiledProbe | None = None

    def step(self, recipe: str) -> StepPlan:
        return self.plan.step(recipe)

    def new_cache(self, args: Sequence[Any], seed: int) -> Cache:
        """For a trajectory with calls of these sizes. `seed` is of the tokens that its steps recompute."""
        sizes = self.arguments.sizes(args)
        draws = {
            name: [each.at(sizes) for each in step.draws]
            for name, step in self.plan.steps.items()
            if step.signature.draws
        }
        return Cache({name: RandomTokens(selections, seed) for name, selections in draws.items()})
