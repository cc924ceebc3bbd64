"""What every pass is, and what passes share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.plan.modes import Mode
from duca_compile.plan.plan import Plan

CACHE = "cache_"
KEPT = "kept_"
FRESH = "fresh_"


@dataclass(frozen=True)
class PassResult:
    """How often a pass applied, and (node, reason) where it could not."""

    count: int
    refusals: tuple[tuple[str, str], ...] = ()


SYMBOLIC = PassResult(0, (("graph", "its sizes are symbolic"),))
"""Of a pass that outlines blocks or prepares it: a subgraph takes no symbolic size as an operand."""


class Pass(Protocol):
    def run(self, gm: fx.GraphModule, plan: Plan) -> PassResult:
        """Rewrites `gm` in place."""


def kept_inputs(plan: Plan, mode: Mode) -> tuple[str, ...]:
    """The inputs after all others in whose fixed memory a mode's graph leaves what it stores, in order."""
    return tuple(f"{KEPT}{at}" for at in range(len(plan.stored(mode)))) if plan.fixed else ()


def named(graph: fx.Graph) -> dict[str, fx.Node]:
    return {node.name: node for node in graph.nodes}


def add_inputs(graph: fx.Graph, values: Mapping[str, Tensor]) -> None:
    """More graph inputs, by name, after those there are."""
    last = ir.placeholders(graph)[-1]
    for name, value in values.items():
        with graph.inserting_after(last):
            last = graph.create_node("placeholder", name, name=name)
        last.meta["val"] = value
