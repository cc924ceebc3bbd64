"""Attention written out: what a fused kernel never shows, its softmax map."""

import math

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.refusal import Refused

aten = torch.ops.aten
PROBABILITIES = "probabilities_of_"


def probabilities(attention: fx.Node) -> fx.Node:
    """The softmax map `[batch, heads, queries, keys]` of an `scaled_dot_product_attention`, in the queries' type.

    It is added to the graph before the attention, once; its name says whose it is. Short floating-point numbers are
    summed as float32. A query that the mask hides all keys from attends to none, as in the fused kernel.
    """
    graph, name = attention.graph, PROBABILITIES + attention.name
    known = ir.named(graph).get(name)
    if known is not None:
        return known
    query, keys, _, mask = (*attention.args, None)[:4]
    assert isinstance(query, fx.Node)
    if _argument(attention, 5, "is_causal") or _argument(attention, 7, "enable_gqa"):
        raise Refused(f"method: %{attention.name} is causal or shares its keys, and its map cannot be written out")
    scale = _argument(attention, 6, "scale") or 1 / math.sqrt(int(ir.sizes(ir.value(query))[-1]))
    with graph.inserting_before(attention):
        scores = emit(graph, aten.matmul.default, [query, emit(graph, aten.transpose.int, [keys, -2, -1])])
        scores = emit(graph, aten._to_copy.default, [scores], {"dtype": torch.float32})
        scores = emit(graph, aten.mul.Scalar, [scores, scale])
        if isinstance(mask, fx.Node):
            scores = _masked(graph, scores, mask)
        found = emit(graph, aten._safe_softmax.default, [scores, -1])
        return emit(graph, aten._to_copy.default, [found], {"dtype": ir.value(query).dtype}, name=name)


def _masked(graph: fx.Graph, scores: fx.Node, mask: fx.Node) -> fx.Node:
    if ir.value(mask).dtype != torch.bool:
        return emit(graph, aten.add.Tensor, [scores, mask])
    hidden = emit(graph, aten.logical_not.default, [mask])
    return emit(graph, aten.masked_fill.Scalar, [scores, hidden, -math.inf])


def _argument(attention: fx.Node, position: int, name: str) -> float | None:
    found: float | None = ir.argument(attention, position, name)
    return found
