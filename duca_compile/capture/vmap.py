"""Writes out what `vmap` does in a Dynamo graph as plain ops, as in the block mask of a flex attention.

A capture before dispatch cannot look into a `vmap`; one after it sees the batched ops that it turns into.
"""

from torch import fx

from duca_compile import torch_private
from duca_compile.capture import autocast
from duca_compile.capture.write_out import write_out
from duca_compile.graph import ir
from duca_compile.refusal import Refused


def without_vmap(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of a Dynamo graph in which batched ops stand where `vmap` was; the graph itself if it has none.

    Raises `Refused` where the forward turns autocast on: a `vmap` would have to be traced under it.
    """
    found = torch_private.vmaps(gm.graph)
    if not found:
        return gm
    if any(node.target is torch_private.enter_autocast for node in gm.graph.nodes):
        raise Refused(f"vmap in a forward that turns autocast on (%{found[0][0].name}); call the model under autocast")
    copy = ir.copied(gm)
    for region in torch_private.vmaps(copy.graph):
        write_out(copy, region, autocast.on(autocast.ambient()))
    copy.recompile()
    return copy
