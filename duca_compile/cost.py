"""What a mode's graph costs: FLOPs (2 per multiply-add, as the paper counts) and bytes of cache."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from duca_compile import ir
from duca_compile.capture import Capture
from duca_compile.modes import Mode
from duca_compile.passes import rewrite
from duca_compile.plan import Plan


def _cpu_attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


MISSING_IN_TORCH = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}
"""Formulas of FLOPs that torch's counter lacks, as its `custom_mapping`."""
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


class _Faking(fx.Interpreter):
    """Over fake tensors; small constants stand in the graph as real ones.

    `flex_flops`: of flex attention as if it were dense, which torch's counter has a formula for but does not look into.
    """

    def __init__(self, gm: fx.GraphModule, fake_mode: Any) -> None:
        super().__init__(gm)
        self._fake_mode = fake_mode
        self.flex_flops = 0

    def run_node(self, node: fx.Node) -> Any:
        if ir.packet(node) is not torch.ops.higher_order.flex_attention:
            return super().run_node(node)
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        self.flex_flops += flop_registry[node.target](*args, **kwargs)
        return ir.value(node)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        held = super().get_attr(target, args, kwargs)
        return self._fake_mode.from_tensor(held) if isinstance(held, Tensor) else held


def count_flops(gm: fx.GraphModule) -> int:
    """FLOPs of matrix products, convolutions and attention, counted by torch over fake tensors."""
    return sum(_count(gm))


def _count(gm: fx.GraphModule) -> tuple[int, int]:
    """FLOPs of products with weights, and of two activations with each other: attention and batched products."""
    inputs = [ir.value(node) for node in ir.placeholders(gm.graph)]
    fake_mode = next(value.fake_mode for value in inputs if hasattr(value, "fake_mode"))
    with fake_mode, FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as counter:
        faking = _Faking(gm, fake_mode)
        faking.run(*inputs)
    counted = counter.get_flop_counts().get("Global", {})
    attention = sum(flops for op, flops in counted.items() if "attention" in str(op) or "bmm" in str(op))
    return int(counter.get_total_flops() - attention), int(attention) + faking.flex_flops


def flops_per_mode(captured: Capture, plan: Plan) -> dict[Mode, int]:
    """FLOPs of one step in each mode the options use."""
    return {mode: count_flops(rewrite(captured.gm, plan, mode)[0]) for mode in Mode if mode in plan.options.modes}


def cost_of(captured: Capture, plan: Plan, mode: Mode) -> Cost[int]:
    """What one step in `mode` costs."""
    gm = rewrite(captured.gm, plan, mode)[0]
    linear, attention = _count(gm)
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
