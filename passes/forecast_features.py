"""A feature is forecast from the last ones that were stored: a weighted sum, whose weights the host fills in."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.methods.base import Action
from duca_compile.passes.base import FRESH, PassResult
from duca_compile.passes.small_caches import widened
from duca_compile.plan.step_plan import WEIGHTS, Slot, StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class ForecastFeatures:
    """Nothing is copied: the sum is part of the kernels that read the feature.

    before:  %mul = mul(%gate, %linear_4)
    after:   %select = select(%history_weights, 0, 0)
             %mul_1 = mul(%cache_linear_4, %select)
             %select_1 = select(%history_weights, 0, 1)
             %mul_2 = mul(%earlier_1_linear_4, %select_1)
             %fresh_linear_4 = add(%mul_1, %mul_2)
             %mul = mul(%gate, %fresh_linear_4)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes, slots = ir.named(gm.graph), {slot.value: slot for slot in step.reads if slot.small}
        chosen = step.where(Action.FORECAST)
        for at in chosen:
            feature = nodes[step.branches[at].feature]
            with gm.graph.inserting_before(feature.next):
                total = combined(gm.graph, nodes, slots[feature.name], step, FRESH + feature.name)
            feature.replace_all_uses_with(total)
        return PassResult(len(chosen))


def combined(graph: fx.Graph, nodes: dict[str, fx.Node], slot: Slot, step: StepPlan, name: str = "") -> fx.Node:
    """What a graph makes of the values of a slot; the last one itself where there is no history.

    Short floating-point numbers are summed as float32, of which a compiler keeps nothing in memory.
    """
    dtype = ir.value(nodes[slot.value]).dtype
    held = [widened(graph, nodes[each], dtype, step) if slot.small else nodes[each] for each in slot.inputs]
    if slot.history == 1:
        return held[0]
    is_short = dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize
    if is_short:
        held = [emit(graph, aten._to_copy.default, [each], {"dtype": torch.float32}) for each in held]
    weighted = [
        emit(graph, aten.mul.Tensor, [each, emit(graph, aten.select.int, [nodes[WEIGHTS], 0, age])])
        for age, each in enumerate(held)
    ]
    total, *others = weighted
    for at, other in enumerate(others):
        last = at == len(others) - 1 and not is_short
        total = emit(graph, aten.add.Tensor, [total, other], name=name if last else "")
    return emit(graph, aten._to_copy.default, [total], {"dtype": dtype}, name=name) if is_short else total
