"""What a step costs: FLOPs (2 per multiply-add, as the paper counts) and bytes of cache."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Generic, TypeVar

from torch import fx

from duca_compile.capture.capture import Capture
from duca_compile.cost import flops
from duca_compile.graph import ir
from duca_compile.graph.op_sets import LOOKUPS
from duca_compile.methods.base import FULL
from duca_compile.plan.plan import Plan
from duca_compile.plan.step_plan import Slot, StepPlan

Number = TypeVar("Number")


@dataclass(frozen=True)
class Cost(Generic[Number]):
    """What one step does and moves: whole numbers, or sympy expressions in a `CostModel`.

    `flops`: 2 per multiply-add of matrix products, convolutions and attention; `attention_flops`: those of them that
    multiply two activations. In bytes: `weights`, what is read of parameters and buffers, but for tables looked up in;
    `caches`, what is read of the last steps' caches; `values`, the results of all operations that are no view.
    """

    flops: Number
    attention_flops: Number
    weights: Number
    caches: Number
    values: Number

    def __add__(self, other: "Cost[Number]") -> "Cost[Number]":
        return Cost(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def cost_of_probe(captured: Capture, gm: fx.GraphModule) -> Cost[int]:
    """What the graph costs that runs before each step."""
    return _cost(captured, gm, caches=0)


def cost_of(captured: Capture, step: StepPlan, gm: fx.GraphModule) -> Cost[int]:
    """What one step costs, whose rewritten graph is `gm`."""
    return _cost(captured, gm, _bytes(captured, step, step.reads))


def _cost(captured: Capture, gm: fx.GraphModule, caches: int) -> Cost[int]:
    linear, attention = flops.count(flops.operations(gm))
    return Cost(
        flops=linear + attention,
        attention_flops=attention,
        weights=_weights_read(gm.graph, captured.state),
        caches=caches,
        values=sum(
            ir.value(node).nbytes for node in gm.graph.nodes if ir.computes(node) and ir.shape(node) is not None
        ),
    )


def _weights_read(graph: fx.Graph, state: frozenset[str]) -> int:
    """Of a weight that is read by its slices, the slices."""
    read = {
        operand
        for node in graph.nodes
        if ir.computes(node) and ir.packet(node) not in LOOKUPS
        for operand in node.all_input_nodes
        if ir.owner(operand).name in state
    }
    return sum(min(ir.value(operand).nbytes, ir.value(ir.owner(operand)).nbytes) for operand in read)


def bytes_held(captured: Capture, plan: Plan) -> int:
    """Bytes that one trajectory keeps between steps."""
    probed = {plan.probing.value} if plan.probing else set[str]()
    seen: int = sum(ir.value(node).nbytes for node in captured.gm.graph.nodes if node.name in probed)
    return seen + _bytes(captured, plan.steps[FULL], plan.slots)


def _bytes(captured: Capture, step: StepPlan, slots: Sequence[Slot]) -> int:
    values = {node.name: ir.value(node) for node in captured.gm.graph.nodes}
    total: int = 0
    for slot in slots:
        value = values[slot.value]
        size = step.kept_in(value.dtype).itemsize if slot.small else value.dtype.itemsize
        total += slot.history * value.numel() * size
    return total
