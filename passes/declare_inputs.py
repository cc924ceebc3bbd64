"""Gives a mode's graph the inputs that carry caches and selected tokens from the dispatcher."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile import ir
from duca_compile.modes import Mode
from duca_compile.passes.base import CACHE, PassResult, add_input, named
from duca_compile.plan import Plan


@dataclass(frozen=True)
class DeclareInputs:
    """Later passes find a cache by its name, `cache_` + the name of the value it holds.

    before:  %x: f32[2, 16, 8] = input
    after:   %x: f32[2, 16, 8] = input
             %cache_linear_4: f32[2, 16, 8] = input
             %selected_1_of_16: i64[3, 1] = input
    """

    mode: Mode

    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        nodes = named(gm.graph)
        selections = {selection.input: selection for selection in plan.selections}
        names = plan.extra_inputs(self.mode)
        for name in names:
            if name in selections:
                chosen = selections[name]
                fake_mode = next(ir.value(node).fake_mode for node in gm.graph.nodes if ir.shape(node) is not None)
                with fake_mode:
                    indices = torch.empty(
                        len(chosen.branches), chosen.count, dtype=torch.int64, device=_device(nodes, plan)
                    )
                add_input(gm.graph, name, indices)
            else:
                add_input(gm.graph, CACHE + name, ir.value(nodes[name]))
        return PassResult(len(names))


def _device(nodes: dict[str, fx.Node], plan: Plan) -> torch.device:
    device: torch.device = ir.value(nodes[plan.branches[0].sum]).device
    return device
