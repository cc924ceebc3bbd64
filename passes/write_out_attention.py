"""Where a step keeps scores by attention, its softmax map is computed once: for the scores, and for the attention."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.graph.written_attention import PROBABILITIES
from duca_compile.passes.base import PassResult
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class WriteOutAttention:
    """It rounds otherwise than the fused kernel, and takes memory for the map.

    before:  %probabilities_of_attention = ...
             %attention = scaled_dot_product_attention(%q, %k, %v)
    after:   %probabilities_of_attention = ...
             %matmul = matmul(%probabilities_of_attention, %v)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes = ir.named(gm.graph)
        maps = [node for name, node in nodes.items() if name.startswith(PROBABILITIES)]
        for each in maps:
            attention = nodes[each.name.removeprefix(PROBABILITIES)]
            with gm.graph.inserting_before(attention):
                written = emit(gm.graph, aten.matmul.default, [each, attention.args[2]])
            attention.replace_all_uses_with(written)
            gm.graph.erase_node(attention)
        return PassResult(len(maps))
