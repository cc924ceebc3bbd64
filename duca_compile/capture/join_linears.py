"""Joins the parts into which torch takes a linear layer, which analyses and passes know as one op."""

from typing import cast

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.graph.op_sets import RESHAPES

aten = torch.ops.aten


def join_linears(gm: fx.GraphModule) -> None:
    """Not a bit of any result changes: torch takes the new op apart in the same way.

    before:  %view = view(%x, [32, 8])
             %t = t(%weight)
             %addmm = addmm(%bias, %view, %t)
             %view_1 = view(%addmm, [2, 16, 4])
    after:   %linear = linear(%x, %weight, %bias)
    """
    for node in gm.graph.nodes:
        if ir.packet(node) in (aten.mm, aten.addmm) and not node.kwargs:
            _join(node)
    gm.graph.eliminate_dead_code()


def _join(product: fx.Node) -> None:
    *bias, rows, right = cast(tuple[fx.Node, ...], product.args)
    if ir.packet(right) is not aten.t or any(len(ir.shape(each) or ()) != 1 for each in bias):
        return
    around = _around(product, rows, may_be_deep=not bias)
    replaced, source = around or (product, rows)
    with product.graph.inserting_before(replaced):
        joined = emit(product.graph, aten.linear.default, [source, right.args[0], *bias])
    replaced.replace_all_uses_with(joined)


def _around(product: fx.Node, rows: fx.Node, may_be_deep: bool) -> tuple[fx.Node, fx.Node] | None:
    """The views after and before a product that are only there to have it work on rows."""
    after = next(iter(product.users), product)
    if ir.packet(rows) not in RESHAPES or ir.packet(after) not in RESHAPES or len(product.users) > 1:
        return None
    before = cast(fx.Node, rows.args[0])
    have, rank = ir.shape(before) or (), len(ir.shape(before) or ())
    is_same = ir.shape(after) == (*have[:-1], (ir.shape(product) or ())[-1])
    if not is_same or have[-1:] != (ir.shape(rows) or ())[-1:] or not ir.value(before).is_contiguous():
        return None
    return (after, before) if rank == 3 or may_be_deep else None
