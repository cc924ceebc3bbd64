"""Removes what no result needs any more."""

from dataclasses import dataclass

import torch
from torch import fx

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
        before = len(gm.graph.nodes)
        for node in reversed(gm.graph.nodes):
            if node.op not in ("placeholder", "output") and not node.users and not _writes(node):
                gm.graph.erase_node(node)
        return PassResult(before - len(gm.graph.nodes))


def _writes(node: fx.Node) -> bool:
    return node.target in (torch.ops.aten.index_copy_.default, torch.ops.aten.copy_.default)
