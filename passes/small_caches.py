"""How values are kept in a smaller type than they have (option `cache_dtype`)."""

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten
BYTES = torch.uint8
"""What caches of 8-bit numbers are to a compiler: few ops write to such numbers in place."""


def shrunk(graph: fx.Graph, node: fx.Node, step: StepPlan) -> fx.Node:
    """The value as its cache keeps it, in new memory, contiguous; the node itself where the cache has its type.

    What the smaller type cannot hold becomes its largest number: a cast would make that infinite, or no number.
    """
    value, small = ir.value(node), step.kept_in(ir.value(node).dtype)
    if small == value.dtype:
        return node
    largest = torch.finfo(small).max
    if torch.finfo(value.dtype).max > largest:
        node = emit(graph, aten.clamp.default, [node, -largest, largest])
    layout = torch.contiguous_format
    node = emit(graph, aten._to_copy.default, [node], {"dtype": small, "memory_format": layout})
    return emit(graph, aten.view.dtype, [node, BYTES]) if small.itemsize == 1 else node


def widened(graph: fx.Graph, cache: fx.Node, dtype: torch.dtype, step: StepPlan, name: str = "") -> fx.Node:
    """A cache of values of this type, as such values; the node itself where it has their type."""
    small = step.kept_in(dtype)
    if small == dtype:
        return cache
    if small.itemsize == 1:
        cache = emit(graph, aten.view.dtype, [cache, small])
    return emit(graph, aten._to_copy.default, [cache], {"dtype": dtype}, name=name)


def kept(dtype: torch.dtype, step: StepPlan) -> torch.dtype:
    """The type of the tensor that is kept of values of this type."""
    small = step.kept_in(dtype)
    return BYTES if small != dtype and small.itemsize == 1 else small
