"""Streams that begin where others end, as where text and image are treated apart first and then together."""

from collections.abc import Sequence

from torch import fx

from duca_compile.analysis.facts import Stream
from duca_compile.graph import ir


def joined(graph: fx.Graph, streams: Sequence[Stream]) -> dict[int, tuple[int, ...]]:
    """Which streams one goes on from, by its index: its root is computed from the last value of each of them."""
    nodes = ir.named(graph)
    ends = {stream.sums[-1]: stream.index for stream in streams}
    on_a_stream = {name for stream in streams for name in stream.sums}
    found = {}
    for stream in streams:
        before = ir.ancestors([nodes[stream.root]], stop=lambda node: node.name in on_a_stream)
        found[stream.index] = tuple(sorted(ends[node.name] for node in before if node.name in ends))
    return {index: sources for index, sources in found.items() if sources}
