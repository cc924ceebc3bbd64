"""Removes what hides structure from the analyses without changing a bit of any result."""

from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.capture.choices import pull_out
from duca_compile.capture.merge_cats import join
from duca_compile.graph import ir
from duca_compile.refusal import located

aten = torch.ops.aten


def canonicalise(gm: fx.GraphModule) -> None:
    """Drops assertions, no-op casts, copies, slices and scalings; a `cat` of all slices of one value is that value, and
    one of slices treated alike is the value treated so; a choice between two sums of a value is one sum."""
    for node in gm.graph.nodes:
        if node.target in (aten._unsafe_view.default, aten.view.default):
            node.target = aten.reshape.default
    returned = _returned(gm.graph)
    for node in list(gm.graph.nodes):
        if node.op == "call_function":
            with located(node):
                _simplify(node, returned)
    gm.graph.eliminate_dead_code()
    gm.recompile()


def _simplify(node: fx.Node, returned: set[fx.Node]) -> None:
    if ir.packet(node) in (aten._assert_tensor_metadata, aten._assert_scalar, aten.sym_constrain_range_for_size):
        node.graph.erase_node(node)
        return
    if ir.packet(node) is aten.type_as:
        _name_dtype(node)
    if ir.packet(node) in _FILLED:
        _name_size(node)
    same = _same_value(node)
    if same is not None and node not in returned:
        node.replace_all_uses_with(same)
        node.graph.erase_node(node)


def _name_dtype(node: fx.Node) -> None:
    """`x.type_as(y)` reads nothing of `y` but its type."""
    node.target = aten._to_copy.default
    node.args, node.kwargs = (node.args[0],), {"dtype": ir.value(node).dtype}


_FILLED = {aten.zeros_like: 0, aten.ones_like: 1, aten.new_zeros: 0, aten.new_ones: 1}


def _name_size(node: fx.Node) -> None:
    """What is filled with a constant reads nothing of the tensor that it is like."""
    made = ir.value(node)
    if not all(isinstance(size, int) for size in ir.sizes(made)) or not made.is_contiguous():
        return
    fill = _FILLED[ir.packet(node)]
    node.target = aten.full.default
    node.args = (list(ir.sizes(made)), fill)
    node.kwargs = {"dtype": made.dtype, "device": made.device}


def _returned(graph: fx.Graph) -> set[fx.Node]:
    """A returned copy must stay a copy, seen through a view too: its caller may write to it."""
    results = ir.output_node(graph).all_input_nodes
    return {*results, *map(ir.owner, results)}


def _same_value(node: fx.Node) -> fx.Node | None:
    rule = _RULES.get(ir.packet(node))
    if rule is None:
        return None
    source = rule(node)
    if not isinstance(source, fx.Node):
        return None
    before, after = ir.value(source), ir.value(node)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return None
    same = ir.form(before) == ir.form(after) and before.dtype == after.dtype and before.device == after.device
    return source if same else None


def _first(node: fx.Node) -> Any:
    return node.args[0]


def _dropout(node: fx.Node) -> Any:
    rate, train = ir.argument(node, 1, "p"), ir.argument(node, 2, "train")
    return node.args[0] if rate == 0 or not train else None


def _times_one(node: fx.Node) -> Any:
    return node.args[0] if node.args[1] == 1 and not node.kwargs else None


def _plus_zero(node: fx.Node) -> Any:
    return node.args[0] if node.args[1] == 0 and not isinstance(node.args[1], bool) else None


_RULES = {
    aten._to_copy: _first, aten.to: _first, aten.clone: _first, aten.contiguous: _first, aten.alias: _first,
    aten.detach: _first, aten.lift_fresh_copy: _first, aten.expand: _first, aten.view: _first, aten.reshape: _first,
    aten.slice: _first, aten.dropout: _dropout, aten.mul: _times_one, aten.div: _times_one, aten.add: _plus_zero,
    aten.sub: _plus_zero, aten.cat: join, aten.where: pull_out,
}  # fmt: skip
