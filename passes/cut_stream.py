"""AGGRESSIVE: the stream that enters the final layer is the one stored at the last non-aggressive step."""

from dataclasses import dataclass

from torch import fx

from duca_compile.passes.base import CACHE, PassResult, named
from duca_compile.plan.plan import Plan


@dataclass(frozen=True)
class CutStream:
    """The final layer itself runs, with the current timestep; the skipped blocks are left dead.

    before:  %add_7 = add(%add_4, %mul)
             %norm = layer_norm(%add_7, ...)
    after:   %norm = layer_norm(%cache_add_7, ...)
    """

    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        nodes = named(gm.graph)
        for name in plan.frontier:
            nodes[name].replace_all_uses_with(nodes[CACHE + name])
        return PassResult(len(plan.frontier))
