"""Tokens by how large their keys or values are: `||k||` or `||v||`, the mean over heads."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.attended import attended
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
        vectors = _before_norm(found.keys) if self.keys else found.values
        vectors = emit(graph, aten._to_copy.default, [vectors], {"dtype": torch.float32})
        lengths = emit(graph, aten.linalg_vector_norm.default, [vectors, 2, [-1]])
        mean = emit(graph, aten.mean.dim, [lengths, [1]])
        return emit(graph, aten.slice.Tensor, [mean, 1, found.start, found.start + found.tokens])


def _before_norm(keys: fx.Node) -> fx.Node:
    """Rotary embeddings, which may lie between, keep lengths as they are."""
    size = ir.shape(keys) or ()
    for node in sorted(ir.ancestors([keys]), reverse=True):
        if ir.packet(node) in NORMS and isinstance(node.args[0], fx.Node):
            given = ir.shape(node.args[0]) or ()
            if given == size:
                return node.args[0]
            if given == (size[0], size[2], size[1], size[3]):
                return emit(keys.graph, aten.transpose.int, [node.args[0], 1, 2])
            break
    return keys
