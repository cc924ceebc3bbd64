"""What the probe's graph has computed already is an input of a step's graph."""

from dataclasses import dataclass

from torch import fx

from duca_compile.graph import ir
from duca_compile.passes.base import PassResult
from duca_compile.plan.probing import CARRIED
from duca_compile.plan.step_plan import StepPlan


@dataclass(frozen=True)
class TakeCarried:
    """No work is done twice.

    before:  %linear = linear(%x, ...)
             %norm = layer_norm(%linear, ...)
    after:   %norm = layer_norm(%carried_linear, ...)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes, carried = ir.named(gm.graph), step.probing.carried if step.probing else ()
        for name in carried:
            nodes[name].replace_all_uses_with(nodes[CARRIED + name])
        return PassResult(len(carried))
