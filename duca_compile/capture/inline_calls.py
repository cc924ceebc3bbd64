"""Writes the bodies of higher-order ops that only call them into the graph: a checkpoint, a region compiled once.

No capture can look into them, and at inference they say nothing that a rewrite could use.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from duca_compile import torch_private
from duca_compile.graph import ir

_FIRST_OPERAND: dict[Any, int] = {
    torch.ops.higher_order.tag_activation_checkpoint: 1,
    torch_private.invoke_subgraph: 2,
}
"""By the op, which of its arguments is the first for the body; the body comes first of all."""


def without_calls(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Dynamo graph with the bodies in line; the graph itself if it calls none."""
    if not _calls(gm):
        return gm
    copy = ir.copied(gm)
    while calls := _calls(copy):
        for call in calls:
            _write_in_line(copy, call)
    copy.recompile()
    return copy


def _calls(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for node in gm.graph.nodes if node.op == "call_function" and node.target in _FIRST_OPERAND]


def _write_in_line(gm: fx.GraphModule, call: fx.Node) -> None:
    held: Any = call.args[0]
    body: Any = gm.get_submodule(str(held.target))
    operands = call.args[_FIRST_OPERAND[call.target] :]
    made: dict[fx.Node, Any] = dict(zip(ir.placeholders(body.graph), operands, strict=True))
    with gm.graph.inserting_before(call):
        results = gm.graph.graph_copy(body.graph, made)
    for node in body.graph.find_nodes(op="get_attr"):
        made[node].target = _adopt(gm, f"{held.target}_{node.target}", body, str(node.target))
    _hand_over(call, results)
    if not held.users:
        gm.graph.erase_node(held)


def _hand_over(call: fx.Node, results: Any) -> None:
    if isinstance(results, Sequence):
        for item in list(call.users):
            at: Any = item.args[1]
            item.replace_all_uses_with(results[at])
            call.graph.erase_node(item)
    else:
        call.replace_all_uses_with(results)
    call.graph.erase_node(call)


def _adopt(gm: fx.GraphModule, name: str, body: fx.GraphModule, target: str) -> str:
    """Gives `gm` what the body holds as an attribute; its name there."""
    name = name.replace(".", "_")
    module, _, leaf = target.rpartition(".")
    found = getattr(body.get_submodule(module), leaf)
    if isinstance(found, nn.Module):
        gm.add_module(name, found)
    else:
        setattr(gm, name, found)
    return name
