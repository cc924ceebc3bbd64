"""Operations of a graph that wait for other processes."""

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.graph.op_sets import SUMS_BY_NAME
from duca_compile.refusal import Refused


def collectives(gm: fx.GraphModule) -> list[fx.Node]:
    """Those of the graph and of the functions that its operations take, in order."""
    graphs = [each.graph for each in gm.modules() if isinstance(each, fx.GraphModule)]
    return [node for graph in graphs for node in graph.nodes if torch_private.is_collective(node.target)]


def waits_of(gm: fx.GraphModule) -> list[str]:
    """For what a graph waits, in order. Of a sum all have to give as much."""
    return [
        f"{node.target} {ir.shape(node) if str(ir.packet(node)) in SUMS_BY_NAME else ''}" for node in collectives(gm)
    ]


def group_of(node: fx.Node) -> object:
    """The processes that a collective runs over.

    Raises `Refused` where these cannot be told, as where it is between two processes alone.
    """
    named = ir.given(node.target, node.args, node.kwargs).get("group_name")  # type: ignore[arg-type]
    group = torch_private.group_of(node.target, named)  # type: ignore[arg-type]
    if group is None:
        raise Refused(
            f"%{node.name} ({node.target}, {ir.source(node)}) waits for another process, and which ones take part "
            "cannot be told; use collectives over a group, such as torch.distributed.all_reduce"
        )
    return group


def device_of(node: fx.Node) -> torch.device:
    """Where a collective's values lie."""
    held = ir.value(node)
    first: Tensor = held if isinstance(held, Tensor) else held[0]
    return first.device
