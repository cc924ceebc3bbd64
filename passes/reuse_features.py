"""A branch takes its whole feature from the cache, as where its body mixes tokens on every path."""

from dataclasses import dataclass

from torch import fx

from duca_compile.graph import ir
from duca_compile.methods.base import Action
from duca_compile.passes.base import PassResult
from duca_compile.passes.small_caches import widened
from duca_compile.plan.step_plan import CACHE, StepPlan


@dataclass(frozen=True)
class ReuseFeatures:
    """Only the feature is replaced: its gate, and whatever else reads the body's inner values, stays as it is.

    before:  %linear_4 = linear(%attention, ...)
             %mul = mul(%gate, %linear_4)
    after:   %mul = mul(%gate, %cache_linear_4)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes, chosen = ir.named(gm.graph), step.where(Action.REUSE)
        for at in chosen:
            feature = nodes[step.reused(at)]
            with gm.graph.inserting_before(feature.next):
                kept = widened(gm.graph, nodes[CACHE + feature.name], ir.value(feature).dtype, step)
            feature.replace_all_uses_with(kept)
        return PassResult(len(chosen))
