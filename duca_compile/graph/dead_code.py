"""What no result needs."""

import torch
from torch import fx

aten = torch.ops.aten


def drop_dead_code(graph: fx.Graph) -> int:
    """Writes to caches and inputs stay, inputs stay; all else without a reader goes. How many nodes those were.

    `fx` itself keeps every operation that may draw random numbers, such as an attention.
    """
    before = len(graph.nodes)
    for node in reversed(graph.nodes):
        if node.op not in ("placeholder", "output") and not node.users and not _writes(node):
            graph.erase_node(node)
    return before - len(graph.nodes)


def _writes(node: fx.Node) -> bool:
    return node.target in (aten.index_copy_.default, aten.copy_.default)
