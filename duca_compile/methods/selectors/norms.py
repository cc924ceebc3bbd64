"""Tokens by how large their keys or values are: `||k||` or `||v||`, the mean over heads."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.attended import Attended, attended
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.methods.selectors.base import Seen

aten = torch.ops.aten
NORMS = (aten.rms_norm, aten.layer_norm)


@dataclass(frozen=True)
class Norms:
    """Of `keys` as they are before they are normalised, or else of values."""

    keys: bool
    kept: bool = True

    def score(self, seen: Seen) -> fx.Node:
        found, graph = attended(seen.graph, seen.facts, seen.at), seen.graph
        before = _before_norm(found) if self.keys else None
        if before is not None:
            heads = 1 if (ir.shape(before) or ())[2] == found.tokens else 2
            return _mean_length(graph, before, heads)
        mean = _mean_length(graph, found.keys if self.keys else found.values, 1)
        return emit(graph, aten.slice.Tensor, [mean, 1, found.start, found.start + found.tokens])


def _mean_length(graph: fx.Graph, vectors: fx.Node, heads: int) -> fx.Node:
    """Of vectors along the last dimension, the mean over the dimension of heads."""
    vectors = emit(graph, aten._to_copy.default, [vectors], {"dtype": torch.float32})
    return emit(graph, aten.mean.dim, [emit(graph, aten.linalg_vector_norm.default, [vectors, 2, [-1]]), [heads]])


def _before_norm(found: Attended) -> fx.Node | None:
    """The keys of the branch's own tokens, four-dimensional, as they enter a norm of their features; None without one.

    Rotary embeddings, which may lie between, keep lengths as they are.
    """
    features = (ir.shape(found.keys) or ())[-1]
    for node in sorted(ir.ancestors([found.part]), reverse=True):
        if ir.packet(node) in NORMS and isinstance(node.args[0], fx.Node):
            given = ir.shape(node.args[0]) or ()
            return node.args[0] if len(given) == 4 and given[-1] == features and found.tokens in given[1:3] else None
    return None
