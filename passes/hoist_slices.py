"""Slices are cut where their source is made, so that blocks that read one table at other rows are equal."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.passes.base import PassResult
from duca_compile.plan.step_plan import CACHE, StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class HoistSlices:
    """A model may compute the modulation of all its blocks at once; then only the row tells the blocks apart.

    before:  %linear = linear(%c, ...)
             ... of block 0
             %select = select(%linear, 1, 0)
             ... of block 1
             %select_1 = select(%linear, 1, 1)
    after:   %linear = linear(%c, ...)
             %select = select(%linear, 1, 0)
             %select_1 = select(%linear, 1, 1)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        count, last_input = 0, ir.placeholders(gm.graph)[-1]
        for node in list(gm.graph.nodes):
            cuts = [user for user in node.users if _is_cut(user, node)]
            if len({repr(cut.args[1:]) for cut in cuts}) < 2 or node.name.startswith(CACHE):
                continue
            place = last_input if node.op == "placeholder" else node
            for cut in sorted(cuts, reverse=True):
                place.append(cut)
            count += len(cuts)
        return PassResult(count)


def _is_cut(user: fx.Node, source: fx.Node) -> bool:
    return ir.packet(user) in (aten.slice, aten.select) and user.all_input_nodes == [source]
