"""A `cat` of pieces that treat adjacent parts of one value alike: the value is treated once, as a whole.

Models that gate the first frame otherwise than the rest write `cat(x[:, :n] + f[:, :n] * g, x[:, n:] + f[:, n:] * h)`,
which is `x + f * cat(g, h)`: the residual addition only shows in the second form.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from duca_compile import ir
from duca_compile.emit import emit
from duca_compile.pieces import piece_of

aten = torch.ops.aten

EXACT = (aten.add, aten.sub, aten.mul, aten.div, aten.neg, aten._to_copy)
"""Ops whose result at one position is rounded from the operands there alone, however they lie in memory."""

Build = Callable[[], Any]


def _slices(pieces: Sequence[Any], dim: int) -> fx.Node | None:
    """The one value whose adjacent pieces, from its start on and in order, these are."""
    found = [piece_of(piece) if isinstance(piece, fx.Node) else None for piece in pieces]
    known = [piece for piece in found if piece is not None]
    if not known or len(known) < len(found):
        return None
    origin, position = known[0].source, 0
    for piece in known:
        if piece.source is not origin or piece.dim != dim % len(ir.shape(origin) or ()) or piece.start != position:
            return None
        position = piece.stop
    return origin


def join(node: fx.Node) -> fx.Node | None:
    """The value that the `cat` puts together again, or new nodes that make it, laid out in memory as the `cat` lays it.

    None where its pieces are not alike.
    """
    pieces: Any = node.args[0]
    rank = len(ir.shape(node) or ())
    if not isinstance(pieces, (list, tuple)) or not pieces or not rank:
        return None
    build = _whole(list(pieces), ir.argument(node, 1, "dim", 0) % rank)
    if build is None:
        return None
    with node.graph.inserting_before(node):
        whole: fx.Node = build()
        if ir.form(ir.value(whole)) != ir.form(ir.value(node)):
            whole = _call(aten.clone.default, [whole], node, memory_format=torch.contiguous_format)
    return whole


def _whole(pieces: list[Any], dim: int) -> Build | None:
    origin = _slices(pieces, dim)
    if origin is not None:
        return None if _size(origin, dim) != sum(_size(piece, dim) for piece in pieces) else lambda: origin
    first = pieces[0]
    if any(ir.packet(piece) not in EXACT or len(piece.users) > 1 for piece in pieces):
        return None
    if len({(piece.target, len(piece.args), str(piece.kwargs), ir.value(piece).dtype) for piece in pieces}) > 1:
        return None
    columns = [[piece.args[position] for piece in pieces] for position in range(len(first.args))]
    wholes = [_whole(column, dim) if _vary(column, pieces, dim) else None for column in columns]
    rest = [whole or _beside(column, pieces, dim) for whole, column in zip(wholes, columns, strict=True)]
    if not any(wholes) or None in rest:
        return None
    return lambda: _call(first.target, [build() for build in rest if build], first, **first.kwargs)


def _vary(column: list[Any], pieces: list[fx.Node], dim: int) -> bool:
    """Whether each operand is as long as its piece."""
    return all(
        isinstance(operand, fx.Node)
        and len(ir.shape(operand) or ()) == len(ir.shape(piece) or ())
        and _size(operand, dim) == _size(piece, dim)
        for operand, piece in zip(column, pieces, strict=True)
    )


def _beside(column: list[Any], pieces: list[fx.Node], dim: int) -> Build | None:
    """Operands that say the same for all positions of a piece, side by side.

    Not those that differ among positions: these may be two streams, whose additions are branches apart.
    """
    first = column[0]
    if not isinstance(first, fx.Node):
        return (lambda: first) if all(operand == first for operand in column) else None
    lengths = [_size(piece, dim) for piece in pieces]
    rank = len(ir.shape(pieces[0]) or ())
    same_form = {(len(ir.shape(node) or ()), ir.value(node).dtype) for node in column if isinstance(node, fx.Node)}
    if same_form != {(rank, ir.value(first).dtype)} or not all(isinstance(length, int) for length in lengths):
        return None
    if any(_size(operand, dim) != 1 for operand in column):
        return None

    def build() -> fx.Node:
        spread = [
            _call(aten.expand.default, [each, [length if at == dim else -1 for at in range(rank)]], each)
            for each, length in zip(column, lengths, strict=True)
        ]
        return _call(aten.cat.default, [spread, dim], pieces[0])

    return build


def _size(node: fx.Node, dim: int) -> Any:
    return (ir.shape(node) or ())[dim]


def _call(target: Any, args: list[Any], like: fx.Node, **kwargs: Any) -> fx.Node:
    """A call of an op, with the source of a node that it stands for."""
    node = emit(like.graph, target, args, kwargs)
    node.meta = {**like.meta, "val": ir.value(node)}
    return node
