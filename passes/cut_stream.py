"""The stream that enters the final layer is taken from the steps that were not cut."""

from dataclasses import dataclass

from torch import fx

from duca_compile.passes.base import PassResult, named
from duca_compile.passes.forecast_features import combined
from duca_compile.plan.step_plan import StepPlan


@dataclass(frozen=True)
class CutStream:
    """The final layer itself runs, with the current timestep; the skipped blocks are left dead.

    before:  %add_7 = add(%add_4, %mul)
             %norm = layer_norm(%add_7, ...)
    after:   %norm = layer_norm(%cache_add_7, ...)

    With a history, a combination of the last ones stored enters it (`forecast_features.py`).
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes = named(gm.graph)
        slots = [slot for slot in step.reads if not slot.small]
        for slot in slots:
            value = nodes[slot.value]
            with gm.graph.inserting_before(value.next):
                kept = combined(gm.graph, nodes, slot, step)
            value.replace_all_uses_with(kept)
        return PassResult(len(slots))
