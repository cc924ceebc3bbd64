"""Removes what no result needs any more."""

from dataclasses import dataclass

from torch import fx

from duca_compile.graph.dead_code import drop_dead_code
from duca_compile.passes.base import PassResult
from duca_compile.plan.step_plan import StepPlan


@dataclass(frozen=True)
class DropDeadCode:
    """Writes to caches and inputs stay, inputs stay; all else without a reader goes.

    before:  %linear_4 = linear(%attention, ...)
             %mul = mul(%gate, %cache_linear_4)
    after:   %mul = mul(%gate, %cache_linear_4)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        return PassResult(drop_dead_code(gm.graph))
