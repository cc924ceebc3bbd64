"""The graph that a method's probe runs before a step's recipe is chosen."""

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.dead_code import drop_dead_code
from duca_compile.graph.emit import emit
from duca_compile.graph.signature import Signature
from duca_compile.passes.base import add_inputs
from duca_compile.passes.spec import check
from duca_compile.plan.probing import BEFORE, Probing

aten = torch.ops.aten


def probe_graph(gm: fx.GraphModule, probing: Probing) -> fx.GraphModule:
    """A copy of the captured graph with other results: how far the value is from that of a step before, relative to it
    (`mean|now - before| / mean|before|`, a float32), the value, and what is carried.

    It writes to no input: the step's graph will. The value is kept for other steps, and lies in memory of its own,
    neither an input's nor that of what is carried.

    after:   %sub = sub(%layer_norm, %value_before)
             ...
             %clone = clone(%layer_norm)
             return [%div, %clone, %linear]
    """
    copy = ir.copied(gm)
    graph = copy.graph
    value = ir.named(graph)[probing.value]
    add_inputs(graph, {BEFORE: ir.value(value)})
    nodes, output = ir.named(graph), ir.output_node(graph)
    with graph.inserting_before(output):
        before = emit(graph, aten._to_copy.default, [nodes[BEFORE]], {"dtype": torch.float32})
        now = emit(graph, aten._to_copy.default, [value], {"dtype": torch.float32})
        moved = emit(graph, aten.sub.Tensor, [now, before])
        sizes = [emit(graph, aten.abs.default, [each]) for each in (moved, before)]
        distance = emit(graph, aten.div.Tensor, [emit(graph, aten.mean.default, [size]) for size in sizes])
        own = emit(graph, aten.clone.default, [value])
    output.args = ([distance, own, *(nodes[name] for name in probing.carried)],)
    for node in filter(ir.is_mutable, list(graph.nodes)):
        graph.erase_node(node)
    drop_dead_code(graph)
    check(copy, after="the probe")
    copy.recompile()
    return copy


def probe_signature(signature: Signature, probing: Probing) -> Signature:
    """Of the probe's graph, `signature` being that of the capture."""
    return Signature(signature.constants, signature.call, reads=(BEFORE,))
