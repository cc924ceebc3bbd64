"""Writes out what `vmap` does in a Dynamo graph as plain ops, as in the block mask of a flex attention.

A capture before dispatch cannot look into a `vmap`; one after it sees the batched ops that it turns into.
"""

from collections.abc import Sequence
from typing import cast

from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from duca_compile import autocast, ir, torch_private
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
        _write_out(copy, region)
    copy.recompile()
    return copy


def _write_out(gm: fx.GraphModule, region: Sequence[fx.Node]) -> None:
    inside = set(region)
    taken = list(dict.fromkeys(node for each in region for node in each.all_input_nodes if node not in inside))
    given = [node for node in region if set(node.users) - inside]
    traced = _traced(_alone(gm, region, taken, given), taken)
    for node in traced.graph.find_nodes(op="get_attr"):
        name = f"vmap_constant_{sum(1 for _ in gm.buffers())}"
        gm.register_buffer(name, getattr(traced, str(node.target)))
        node.target = name
    places = dict(zip(ir.placeholders(traced.graph), taken, strict=True))
    with gm.graph.inserting_before(region[0]):
        results = cast(list[fx.Node], gm.graph.graph_copy(traced.graph, places))
    for node, copied in places.items():
        if node.op != "placeholder":
            torch_private.set_dynamo_value(copied, node.meta.get("val"))
    for node, result in zip(given, results, strict=True):
        node.replace_all_uses_with(result)
    for node in reversed(region):
        gm.graph.erase_node(node)


def _alone(
    gm: fx.GraphModule, region: Sequence[fx.Node], taken: Sequence[fx.Node], given: Sequence[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    places = {node: graph.placeholder(node.name) for node in taken}
    for node in region:
        places[node] = graph.node_copy(node, places.__getitem__)
    graph.output([places[node] for node in given])
    return fx.GraphModule(gm, graph)


def _traced(alone: fx.GraphModule, taken: Sequence[fx.Node]) -> fx.GraphModule:
    values = [torch_private.dynamo_value(node) for node in taken]
    with torch_private.fake_modes(values), autocast.on(autocast.ambient()):
        return make_fx(alone)(*values)
