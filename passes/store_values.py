"""Returns the values that later steps read, beside the call's own results."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.order import multiplies
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.passes.base import PassResult
from duca_compile.passes.small_caches import shrunk
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class StoreValues:
    """A stored value is an extra output: nothing is copied, unless its memory is shared, larger or not contiguous.

    A cache is updated in place and lives on after the call, so it must not share memory with a result the caller may
    write to, with an input, or with another cache; a slice would keep all that it was cut from.

    before:  return [%linear_9]
    after:   return [%linear_9, %linear_4, %linear_6, %add_7]

    In fixed memory:
    after:   %copy = copy_(%kept_0, %linear_4)
             %copy_1 = copy_(%kept_1, %linear_6)
             return [%linear_9]
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        nodes, output, owners = ir.named(gm.graph), ir.output_node(gm.graph), ir.owners(gm.graph)
        taken = {owners[node] for node in output.all_input_nodes} | set(ir.placeholders(gm.graph))
        stored = []
        for slot in step.writes:
            node = nodes[slot.value]
            if slot.small:
                with gm.graph.inserting_before(node.next):
                    node = shrunk(gm.graph, node, step)
            if step.fixed:
                with gm.graph.inserting_before(output):
                    _move_along(gm.graph, [nodes[name] for name in step.kept_of(slot)], node)
                continue
            owner = owners.get(node, node)
            if owner not in taken and _is_cut(node):
                node = _cut_out(gm.graph, node)
            elif owner in taken or not ir.value(node).is_contiguous():
                with gm.graph.inserting_before(output):
                    node = _clone(gm.graph, node)
            taken.add(owner)
            stored.append(node)
        results = output.args[0]
        assert isinstance(results, (list, tuple))
        output.args = ((*results, *stored),)
        return PassResult(len(step.writes))


def _clone(graph: fx.Graph, value: fx.Node) -> fx.Node:
    return emit(graph, aten.clone.default, [value], {"memory_format": torch.contiguous_format})


def _is_cut(value: fx.Node) -> bool:
    """A slice that no product reads, which may round otherwise where its rows lie otherwise."""
    return ir.packet(value) is aten.slice and not any(map(multiplies, value.users))


def _cut_out(graph: fx.Graph, part: fx.Node) -> fx.Node:
    """A clone that all readers read: for two readers of a part a compiler computes the whole beforehand."""
    with graph.inserting_before(part.next):
        clone = _clone(graph, part)
    part.replace_all_uses_with(clone, delete_user_cb=lambda user: user is not clone)
    return clone


def _move_along(graph: fx.Graph, memory: list[fx.Node], value: fx.Node) -> None:
    """Each value of a history goes to the memory of the one before it, the oldest first."""
    for older, newer in zip(memory, [*memory[1:], value], strict=True):
        emit(graph, aten.copy_.default, [older, newer])
