"""The stream that enters the final layer is taken from the steps that were not cut."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.passes.base import PassResult
from duca_compile.passes.forecast_features import combined
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class CutStream:
    """The final layer itself runs, with the current timestep; the skipped blocks are left dead.

    before:  %add_7 = add(%add_4, %mul)
             %norm = layer_norm(%add_7, ...)
    after:   %norm = layer_norm(%cache_add_7, ...)

    With a history, a combination of the last ones stored enters it (`forecast_features.py`). Of a stream with an anchor
    its change is kept:

    after:   %add_7 = add(%add, %cache_change_of_add_7_from_add)
             %norm = layer_norm(%add_7, ...)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes, slots = ir.named(gm.graph), {slot.value: slot for slot in step.reads if not slot.small}
        for cut in step.cut:
            value = nodes[cut.value]
            last = max(value, nodes[cut.anchor]) if cut.anchor else value
            with gm.graph.inserting_before(last.next):
                kept = combined(gm.graph, nodes, slots[cut.kept], step)
                if cut.anchor:
                    kept = emit(gm.graph, aten.add.Tensor, [nodes[cut.anchor], kept])
            value.replace_all_uses_with(kept)
        return PassResult(len(step.cut))
