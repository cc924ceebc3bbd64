"""Tokens by the attention that they receive: the softmax map, the mean over heads, summed over queries."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.attended import attended
from duca_compile.graph.emit import emit
from duca_compile.graph.written_attention import probabilities
from duca_compile.methods.selectors.base import Seen

aten = torch.ops.aten


@dataclass(frozen=True)
class Attention:
    """Full steps write their attention out, so that the map is at hand (`passes/write_out_attention.py`)."""

    kept: bool = True

    def score(self, seen: Seen) -> fx.Node:
        found, graph = attended(seen.graph, seen.facts, seen.at), seen.graph
        maps = emit(graph, aten._to_copy.default, [probabilities(found.attention)], {"dtype": torch.float32})
        received = emit(graph, aten.sum.dim_IntList, [emit(graph, aten.mean.dim, [maps, [1]]), [1]])
        return emit(graph, aten.slice.Tensor, [received, 1, found.start, found.start + found.tokens])
