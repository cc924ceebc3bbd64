"""Writes a tensor that is constructed from another one as the view that it is, which a capture sees."""

import torch
from torch import fx

from duca_compile.graph import ir


def without_constructors(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Dynamo graph without them; the graph itself if it has none.

    A weight of a class of its own becomes a plain tensor so.

    before:  %tensor = torch.Tensor(%weight)
    after:   %detach = detach(%weight)
    """
    if not _constructors(gm):
        return gm
    copy = ir.copied(gm)
    for node in _constructors(copy):
        with copy.graph.inserting_before(node):
            view = copy.graph.call_method("detach", node.args)
        view.meta = {**node.meta}
        node.replace_all_uses_with(view)
        copy.graph.erase_node(node)
    copy.recompile()
    return copy


def _constructors(gm: fx.GraphModule) -> list[fx.Node]:
    found = gm.graph.find_nodes(op="call_function", target=torch.Tensor)
    return [node for node in found if len(node.args) == 1 and isinstance(node.args[0], fx.Node)]
