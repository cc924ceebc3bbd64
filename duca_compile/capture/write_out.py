"""Puts plain ATen ops in the place of nodes of a Dynamo graph: what these turn into when they run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.graph import ir


def write_out(gm: fx.GraphModule, region: Sequence[fx.Node], under: AbstractContextManager[None]) -> None:
    """Replaces the nodes, which stand in the order of the graph, by the ops that they run in the context `under`.

    The values that others read of them must be tensors.
    """
    inside = set(region)
    taken = list(dict.fromkeys(node for each in region for node in each.all_input_nodes if node not in inside))
    given = [node for node in region if set(node.users) - inside]
    results = put(gm, traced(_alone(gm, region, taken, given), taken, under), taken, region[0])
    for node, result in zip(given, results, strict=True):
        node.replace_all_uses_with(result)
    for node in reversed(region):
        gm.graph.erase_node(node)


def traced(
    function: Callable[..., Any], taken: Sequence[fx.Node], under: AbstractContextManager[None]
) -> fx.GraphModule:
    """The plain ops that a function of these nodes of a Dynamo graph runs in the context `under`."""
    values = [torch_private.dynamo_value(node) for node in taken]
    with torch_private.fake_modes(values), torch.no_grad(), under:
        return torch_private.make_fx(function)(*values)


def put(gm: fx.GraphModule, ops: fx.GraphModule, taken: Sequence[fx.Node], before: fx.Node) -> list[fx.Node]:
    """Writes `traced` ops over these nodes in front of a node; the nodes of their results."""
    for node in ops.graph.find_nodes(op="get_attr"):
        name = f"written_out_{sum(1 for _ in gm.buffers())}"
        gm.register_buffer(name, getattr(ops, str(node.target)))
        node.target = name
    places = dict(zip(ir.placeholders(ops.graph), taken, strict=True))
    with gm.graph.inserting_before(before):
        results = cast(list[fx.Node], gm.graph.graph_copy(ops.graph, places))
    for node, copied in places.items():
        if node.op != "placeholder":
            torch_private.set_dynamo_value(copied, node.meta.get("val"))
            copied.meta.setdefault("stack_trace", before.meta.get("stack_trace"))
    return results


def _alone(
    gm: fx.GraphModule, region: Sequence[fx.Node], taken: Sequence[fx.Node], given: Sequence[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    places = {node: graph.placeholder(node.name) for node in taken}
    for node in region:
        places[node] = graph.node_copy(node, places.__getitem__)
    graph.output([places[node] for node in given])
    return fx.GraphModule(gm, graph)
