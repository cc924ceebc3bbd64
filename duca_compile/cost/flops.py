"""FLOPs (2 per multiply-add, as the paper counts) of matrix products, convolutions and attention.

Of a graph they are counted operation by operation: equal operations once, so that a model's blocks cost one block's
time, and at whatever sizes the symbolic ones have. What eager PyTorch executes is counted as it runs.
"""

import functools
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from duca_compile import torch_private
from duca_compile.graph import attention_ops, ir
from duca_compile.graph.op_sets import is_quantised_product
from duca_compile.torch_private import HigherOrderOperator, OpOverload, TorchDispatchMode, fake_tensors, tree_leaves

log = logging.getLogger("duca_compile")


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


def _grouped_product(a: Any, b: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Rows, columns or the dimension summed over are shared out among the groups: each is multiplied once."""
    columns_are_shared_out = len(a) == 3 and len(b) == 2
    products: int = math.prod(b) * a[-2] if columns_are_shared_out else math.prod(a) * b[-1]
    return 2 * products


def _rows_times_weight(args: Any, result: Tensor) -> int:
    """The form of a quantised weight tells no sizes; those of the rows, which come first, and of the result do."""
    return 2 * result.numel() * int(args[0].shape[-1])


MISSING_IN_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._grouped_mm: _grouped_product,
    torch.ops.higher_order.flex_attention: _attention,
}
"""Formulas of FLOPs that the counter of some release lacks, as its `custom_mapping`; a flex attention's as if dense."""
_FORMULAS: Mapping[Any, Any] = FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH).flop_registry


class Unknown(Exception):
    """The sizes of an operation are known only when it runs."""


@dataclass(frozen=True)
class _Given:
    """A tensor that an operation is given. `form`: sizes and strides, expressions where they are symbolic."""

    form: tuple[Any, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Operation:
    """Of a graph: what is called, with tensors described and lists as tuples."""

    target: Any
    args: Any
    kwargs: Any


Operations = Mapping[Operation, int]
"""And how often a graph runs each."""


def operations(gm: fx.GraphModule) -> Operations:
    """Those of the graph that may have FLOPs."""

    def described(node: fx.Node) -> Any:
        held = getattr(gm, node.target) if node.op == "get_attr" else ir.value(node)  # type: ignore[arg-type]
        return _Given(ir.form(held), held.dtype, held.device) if isinstance(held, Tensor) else ir.number(held)

    found: Counter[Operation] = Counter()
    for node in gm.graph.nodes:
        if _may_multiply(node):
            args, kwargs = _frozen(fx.map_arg((node.args, node.kwargs), described))
            found[Operation(node.target, args, kwargs)] += 1
    return found


def _may_multiply(node: fx.Node) -> bool:
    if not ir.computes(node) or not any(isinstance(leaf, Tensor) for leaf in tree_leaves(ir.value(node))):
        return False
    if isinstance(node.target, OpOverload):
        known = ir.packet(node) in _FORMULAS or is_quantised_product(ir.packet(node))
        return known or torch_private.is_composite(node.target) or attention_ops.is_attention(node)
    return isinstance(node.target, HigherOrderOperator)


def _frozen(held: Any) -> Any:
    if isinstance(held, (list, tuple)):
        return tuple(map(_frozen, held))
    if isinstance(held, dict):
        return tuple((name, _frozen(value)) for name, value in held.items())
    return held


def count(found: Operations, sizes: Mapping[Any, int] | None = None) -> tuple[int, int]:
    """FLOPs of products with weights, and of two activations with each other: attention and batched products.

    `sizes` are the numbers that symbolic sizes have. Raises `Unknown` where there is none for one of them.
    """
    linear = attention = 0
    for operation, times in found.items():
        counted = _count if isinstance(operation.target, OpOverload) else _count.__wrapped__
        each = counted(_at(operation, sizes or {}))
        linear, attention = linear + times * each[0], attention + times * each[1]
    return linear, attention


def per_recipe(found: Mapping[str, Operations], sizes: Mapping[Any, int]) -> dict[str, int] | None:
    """FLOPs of one graph in each recipe; None where they cannot be told: no step depends on them, only what we say."""
    try:
        return {name: sum(count(each, sizes)) for name, each in found.items()} or None
    except Exception:
        log.debug("the cost of a graph could not be counted", exc_info=True)
        return None


def _at(held: Any, sizes: Mapping[Any, int]) -> Any:
    """The same in numbers."""
    if isinstance(held, Operation):
        return Operation(held.target, _at(held.args, sizes), _at(held.kwargs, sizes))
    if isinstance(held, _Given):
        return _Given(_at(held.form, sizes), held.dtype, held.device)
    if isinstance(held, tuple):
        return tuple(_at(each, sizes) for each in held)
    if isinstance(held, sympy.Basic):
        number = held.subs(sizes)
        if not number.is_number:
            raise Unknown(f"{held} is known only when it is computed")
        return int(number)
    return held


@functools.lru_cache(4096)
def _count(operation: Operation) -> tuple[int, int]:
    """As torch counts it over fake tensors. Remembered but for those that hold graphs."""
    with fake_tensors(), FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as counter:
        args, kwargs = _made(operation.args), {name: _made(value) for name, value in operation.kwargs}
        if isinstance(operation.target, HigherOrderOperator) and operation.target in _FORMULAS:
            return 0, int(_FORMULAS[operation.target](*args, **kwargs))
        attended = attention_ops.flops(operation.target, args, kwargs)
        if attended is not None:
            return 0, int(attended)
        result = operation.target(*args, **kwargs)
        if not counter.get_total_flops() and is_quantised_product(operation.target.overloadpacket):
            return _rows_times_weight(args, result), 0
    counted = counter.get_flop_counts().get("Global", {})
    attention = sum(flops for op, flops in counted.items() if "attention" in str(op) or "bmm" in str(op))
    return int(counter.get_total_flops() - attention), int(attention)


def _made(held: Any) -> Any:
    if isinstance(held, _Given):
        return torch.empty_strided(*held.form, dtype=held.dtype, device=held.device)
    return tuple(map(_made, held)) if isinstance(held, tuple) else held


class Executed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what eager PyTorch executes in this context: `flops` so far. `unknown`: something could not be counted.

    Under torch's own counter Dynamo would compile nothing. In this context it does, and compiled graphs run as ever.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.unknown = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(getattr(op, "overloadpacket", op))
        if types:  # a tensor made of others, such as a nested one, has ways of its own to run operations
            self.unknown = True
            return op(*args, **kwargs)
        if formula is None and isinstance(op, OpOverload) and op.namespace != "prim":
            with self:
                result = op.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = op(*args, **kwargs)
        if formula is None:
            is_product = is_quantised_product(getattr(op, "overloadpacket", op))
            own = _rows_times_weight(args, result) if is_product else attention_ops.flops(op, args, kwargs)
            self.flops += own or 0
        else:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        return result
