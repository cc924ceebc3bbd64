"""On CPUs, linear layers over few rows go to oneDNN, which reads a large weight once for them."""

import math
from dataclasses import dataclass

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.kernels import few_row_linear
from duca_compile.passes.base import PassResult
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import Refusal

aten = torch.ops.aten
FEW = 512
"""Rows up to which it was found faster than MKL (`python benchmarks speed --sections "few rows"`)."""


@dataclass(frozen=True)
class FewRowLinears:
    """A cached step is made of them: the modulation of a batch, the MLPs of the selected tokens.

    The default for float32, MKL's matrix product, is slowest there, but for up to 3 rows on Intel's own processors,
    where our op calls it. Results round in another order.

    before:  %linear = linear(%index_select, %weight, %bias)
    after:   %linear = duca_compile.linear(%index_select, %weight, %bias)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        if step.is_complete:
            return PassResult(0)
        if not torch_private.has_onednn():
            return PassResult(0, (Refusal("graph", "this build of torch is without oneDNN"),))
        linears = [node for node in gm.graph.nodes if ir.packet(node) is aten.linear and _has_few_rows(node)]
        for node in linears:
            with gm.graph.inserting_before(node):
                node.replace_all_uses_with(emit(gm.graph, few_row_linear.linear, (*node.args, None)[:3]))
            gm.graph.erase_node(node)
        return PassResult(len(linears))


def _has_few_rows(linear: fx.Node) -> bool:
    held, rows = ir.value(linear), (ir.shape(linear) or ())[:-1]
    if held.device.type != "cpu" or held.dtype != torch.float32:
        return False
    return all(isinstance(size, int) for size in rows) and math.prod(rows) <= FEW
