"""A choice between two sums of one value is the sum of that value and a choice.

Models that gate given frames otherwise than denoised ones may write `where(mask, x + g * f, x + h * f)`, which is
`x + where(mask, g * f, h * f)`, bit for bit: the one residual addition only shows in the second form.
"""

from typing import Any

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit

aten = torch.ops.aten


def pull_out(node: fx.Node) -> fx.Node | None:
    """The sum that the `where` is, as new nodes; None where it chooses between other things."""
    given: Any = node.args
    if len(given) < 3 or not all(isinstance(total, fx.Node) and _is_plain_sum(total) for total in given[1:]):
        return None
    mask, first, second = given
    left, right = first.args, second.args
    common = next((each for each in left if each in right), None)
    rest = [pair[1] if pair[0] is common else pair[0] for pair in (left, right)]
    if common is None or len({(ir.shape(each), ir.value(each).dtype) for each in (common, *rest, node)}) > 1:
        return None
    target: Any = node.target
    with node.graph.inserting_before(node):
        chosen = emit(node.graph, target, [mask, *rest])
        whole = emit(node.graph, first.target, [common, chosen])
    for made, like in ((chosen, node), (whole, first)):
        made.meta = {**like.meta, "val": ir.value(made)}
    return whole


def _is_plain_sum(node: fx.Node) -> bool:
    """Of two tensors, which nothing but the choice reads."""
    plain = ir.packet(node) is aten.add and len(node.users) == 1 and not node.kwargs
    return plain and all(isinstance(each, fx.Node) and ir.shape(each) is not None for each in node.args)
