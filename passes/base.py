"""What every pass is, and what passes share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import Refusal

FRESH = "fresh_"


@dataclass(frozen=True)
class PassResult:
    """How often a pass applied, and where it could not."""

    count: int
    refusals: tuple[Refusal, ...] = ()


SYMBOLIC = PassResult(0, (Refusal("graph", "its sizes are symbolic"),))
"""Of a pass that outlines blocks or prepares it: a subgraph takes no symbolic size as an operand."""


class Pass(Protocol):
    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        """Rewrites `gm` in place."""


def add_inputs(graph: fx.Graph, values: Mapping[str, Tensor]) -> None:
    """More graph inputs, by name, after those there are."""
    last = ir.placeholders(graph)[-1]
    for name, value in values.items():
        with graph.inserting_after(last):
            last = graph.create_node("placeholder", name, name=name)
        last.meta["val"] = value
