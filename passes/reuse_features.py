"""CONSERVATIVE: a branch whose body mixes tokens on every path takes its whole feature from the cache."""

from dataclasses import dataclass

from torch import fx

from duca_compile.graph import ir
from duca_compile.passes.base import CACHE, PassResult, named
from duca_compile.passes.small_caches import widened
from duca_compile.plan.plan import Plan


@dataclass(frozen=True)
class ReuseFeatures:
    """Only the feature is replaced: its gate, and whatever else reads the body's inner values, stays as it is.

    before:  %linear_4 = linear(%attention, ...)
             %mul = mul(%gate, %linear_4)
    after:   %mul = mul(%gate, %cache_linear_4)
    """

    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        nodes = named(gm.graph)
        refusals = []
        count = 0
        for index, branch in enumerate(plan.branches):
            if index in plan.recomputed:
                refusals.append((branch.sum, "its tokens are recomputed"))
                continue
            feature = nodes[branch.feature]
            with gm.graph.inserting_before(feature.next):
                kept = widened(gm.graph, nodes[CACHE + branch.feature], ir.value(feature).dtype, plan)
            feature.replace_all_uses_with(kept)
            count += 1
        return PassResult(count, tuple(refusals))
