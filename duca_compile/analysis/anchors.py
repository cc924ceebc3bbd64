"""How far skipped branches move a stream: a value that is kept in place of the stream, and added to it where it is cut.

It goes into the captured graph as a node of its own, like any value that is kept; where no step needs it, it is dead.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.analysis.order import multiplies
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.refusal import Refused

aten = torch.ops.aten


@dataclass(frozen=True)
class Cut:
    """A stream value that is read instead of computed: `kept`, added to `anchor` where there is one."""

    value: str
    kept: str
    anchor: str = ""


def anchored(value: fx.Node, skips: Mapping[fx.Node, fx.Node]) -> Cut:
    """The cut at `value` where every sum is taken for its skip (`skips`); adds to the graph what is not there yet.

    before:  %add_7 = add(%add_4, %mul)
    after:   %add_7 = add(%add_4, %mul)
             %change_of_add_7_from_add = sub(%add_7, %add)
    """
    graph = value.graph
    known = ir.named(graph)
    with graph.inserting_before(value.next):
        anchor = _left_out(value, skips, known, {})
    name = f"change_of_{value.name}_from_{anchor.name}"
    if _form(anchor) != _form(value):
        raise Refused(f"method: %{value.name} has another form than %{anchor.name}, from which its change is counted")
    if name not in known:
        with graph.inserting_before(max(value, anchor).next):
            emit(graph, aten.sub.Tensor, [value, anchor], name=name)
    return Cut(value.name, name, anchor.name)


def _left_out(
    node: fx.Node, skips: Mapping[fx.Node, fx.Node], known: Mapping[str, fx.Node], made: dict[fx.Node, fx.Node]
) -> fx.Node:
    """What the value would be without the branches: itself where it depends on none of them."""
    if node in made:
        return made[node]
    if node in skips:
        found = _left_out(skips[node], skips, known, made)
    elif not ir.ancestors([node]) & skips.keys():
        found = node
    elif multiplies(node):
        raise Refused(f"method: work that is not part of a branch, such as %{node.name}, lies between the blocks")
    else:
        operands = {operand: _left_out(operand, skips, known, made) for operand in node.all_input_nodes}
        of = zlib.crc32(" ".join(operand.name for operand in operands.values()).encode())
        name = f"without_{of:x}_{node.name}"
        found = known.get(name) or emit(
            node.graph,
            node.target,  # type: ignore[arg-type]
            fx.map_arg(node.args, operands.__getitem__),
            fx.map_arg(node.kwargs, operands.__getitem__),
            name=name,
        )
    made[node] = found
    return found


def _form(node: fx.Node) -> tuple[object, ...]:
    held = ir.value(node)
    return ir.shape(node), held.dtype, held.device
