"""What a mode's graph costs: FLOPs (2 per multiply-add, as the paper counts) and bytes of cache."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import fx

from duca_compile.capture.capture import Capture
from duca_compile.cost import flops
from duca_compile.graph import ir
from duca_compile.passes import rewrite
from duca_compile.plan.modes import Mode
from duca_compile.plan.plan import Plan

_TABLES = (torch.ops.aten.embedding, torch.ops.aten.index, torch.ops.aten.index_select)
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


def cost_of(captured: Capture, plan: Plan, mode: Mode) -> Cost[int]:
    """What one step in `mode` costs."""
    gm = rewrite(captured.gm, plan, mode)[0]
    linear, attention = flops.count(flops.operations(gm))
    return Cost(
        flops=linear + attention,
        attention_flops=attention,
        weights=_weights_read(gm.graph, captured.state),
        caches=bytes_read(captured, plan, mode),
        values=sum(
            ir.value(node).nbytes for node in gm.graph.nodes if ir.computes(node) and ir.shape(node) is not None
        ),
    )


def _weights_read(graph: fx.Graph, state: frozenset[str]) -> int:
    """Of a weight that is read by its slices, the slices."""
    read = {
        operand
        for node in graph.nodes
        if ir.computes(node) and ir.packet(node) not in _TABLES
        for operand in node.all_input_nodes
        if ir.owner(operand).name in state
    }
    return sum(min(ir.value(operand).nbytes, ir.value(ir.owner(operand)).nbytes) for operand in read)


def bytes_read(captured: Capture, plan: Plan, mode: Mode) -> int:
    """Bytes of cache that one step in `mode` takes as input."""
    held = _bytes_held(captured.gm.graph, plan)
    return {Mode.FULL: 0, Mode.CONSERVATIVE: held[0], Mode.AGGRESSIVE: held[1]}[mode]


def bytes_held(captured: Capture, plan: Plan) -> int:
    """Bytes that one trajectory keeps between steps."""
    return sum(_bytes_held(captured.gm.graph, plan))


def _bytes_held(graph: fx.Graph, plan: Plan) -> tuple[int, int]:
    """Of caches and of the frontier."""
    values = {node.name: ir.value(node) for node in graph.nodes}
    caches = [values[name] for name in plan.caches]
    kept = sum(value.numel() * plan.kept_in(value.dtype).itemsize for value in caches)
    return kept, sum(values[name].nbytes for name in plan.frontier)
