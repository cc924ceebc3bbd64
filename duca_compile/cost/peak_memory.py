"""How much memory the results of a graph's operations take at once."""

from collections import defaultdict

from torch import Tensor, fx

from duca_compile.analysis.token_rules import is_pointwise
from duca_compile.graph import ir
from duca_compile.torch_private import tree_leaves


def peak_bytes(graph: fx.Graph) -> int:
    """The most bytes that results take at once, each from its operation to the last that reads it or a view of it.

    Inputs do not count. A pointwise operation writes over an operand of its size that nothing reads later, as
    compilers let it. What else a compiler fuses, moves or keeps is its own (`python benchmarks speed --sections memory`
    measures how much).
    """
    last = _last_reads(graph)
    ends = defaultdict(list)
    for node, reader in last.items():
        ends[reader].append(node)
    held = highest = 0
    for node in filter(ir.computes, graph.nodes):
        size, ended = _bytes(node), [_bytes(given) for given in ends[node]]
        in_place = is_pointwise(node) and size in ended
        highest = max(highest, held + (0 if in_place else size))
        held += (size if node in last else 0) - sum(ended)
    return highest


def _last_reads(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Of every result, the last node to read it or a view of it."""
    readers = [node for node in graph.nodes if ir.computes(node) or node.op == "output"]
    owners = ir.owners(graph)
    read = ((owners[given], reader) for reader in readers for given in reader.all_input_nodes)
    return {owner: reader for owner, reader in read if ir.computes(owner)}


def _bytes(node: fx.Node) -> int:
    return sum(held.nbytes for held in tree_leaves(ir.value(node)) if isinstance(held, Tensor))
