"""A `cat` of pieces that treat adjacent parts of one value alike: the value is treated once, as a whole.

Models that gate the first frame otherwise than the rest write `cat(x[:, :n] + f[:, :n] * g, x[:, n:] + f[:, n:] * h)`,
which is `x + f * cat(g, h)`: the residual addition only shows in the second form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.graph.op_sets import ROUNDED_ALIKE
from duca_compile.graph.slices import piece_of

aten = torch.ops.aten

Column = tuple[Any, ...]
"""What one place holds in each of several pieces: the pieces themselves, or one operand of each."""


@dataclass(frozen=True)
class _Recipe:
    """How a column is made as one value: by `target` of others, or, without one, the only operand as it is."""

    operands: Column
    target: Any = None
    like: fx.Node | None = None

    def columns(self) -> list[Column]:
        return [operand for operand in self.operands if isinstance(operand, tuple)]


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
    given: Any = node.args[0]
    rank = len(ir.shape(node) or ())
    if not isinstance(given, (list, tuple)) or not given or not rank:
        return None
    dim = ir.argument(node, 1, "dim", 0) % rank
    pieces = tuple(piece for piece in given if not _is_empty(piece, dim))
    if not pieces:
        return None
    recipes = _recipes(pieces, dim)
    if recipes[pieces] is None:
        return None
    with node.graph.inserting_before(node):
        whole = _build(pieces, recipes, dim)
        if ir.form(ir.value(whole)) != ir.form(ir.value(node)):
            whole = _call(aten.clone.default, [whole], node, memory_format=torch.contiguous_format)
    return whole


def _is_empty(piece: Any, dim: int) -> bool:
    """What adds nothing to a `cat`: the frames after the first of a single frame."""
    size = ir.shape(piece) if isinstance(piece, fx.Node) else None
    return size is not None and (size == (0,) or size[dim] == 0)


def _recipes(pieces: Column, dim: int) -> dict[Column, _Recipe | None]:
    """Of the pieces, and of every column that they are made of, how to make it as a whole; None where it is not made.

    Every piece has one reader, so that a column is looked at once.
    """
    recipes: dict[Column, _Recipe | None] = {pieces: _Recipe((pieces[0],))} if len(pieces) == 1 else {}
    stack = [pieces]
    while stack:
        column = stack[-1]
        parts = _parts(column, dim) if column not in recipes else []
        missing = [part for part in parts if part not in recipes and _vary(part, column, dim)]
        if missing:
            stack += missing
            continue
        stack.pop()
        if column not in recipes:
            recipes[column] = _recipe(column, parts, recipes, dim)
    return recipes


def _parts(pieces: Column, dim: int) -> list[Column]:
    """The operands of pieces that are made by one op, position by position."""
    if _slices(pieces, dim) is not None or any(
        ir.packet(piece) not in ROUNDED_ALIKE or len(piece.users) > 1 for piece in pieces
    ):
        return []
    if len({(piece.target, len(piece.args), str(piece.kwargs), ir.value(piece).dtype) for piece in pieces}) > 1:
        return []
    return list(zip(*(piece.args for piece in pieces), strict=True))


def _recipe(pieces: Column, parts: list[Column], known: dict[Column, _Recipe | None], dim: int) -> _Recipe | None:
    origin = _slices(pieces, dim)
    if origin is not None:
        whole = _size(origin, dim) == sum(_size(piece, dim) for piece in pieces)
        return _Recipe((origin,)) if whole else None
    operands: list[Any] = []
    joined = False
    for part in parts:
        if known.get(part) is not None and _vary(part, pieces, dim):
            joined = True
            operands.append(part)
        elif _same_constant(part):
            operands.append(part[0])
        elif _lies_beside(part, pieces, dim):
            operands.append(part)
        else:
            return None
    return _Recipe(tuple(operands), pieces[0].target, pieces[0]) if joined else None


def _build(pieces: Column, recipes: dict[Column, _Recipe | None], dim: int) -> fx.Node:
    """Operands before what is made of them."""
    made: dict[Column, fx.Node] = {}
    stack = [pieces]
    while stack:
        column = stack[-1]
        recipe = recipes.get(column)
        missing = [part for part in recipe.columns() if part not in made] if recipe else []
        if missing:
            stack += reversed(missing)
            continue
        stack.pop()
        if column not in made:
            made[column] = _made(recipe, made) if recipe else _beside(column, pieces, dim)
    return made[pieces]


def _made(recipe: _Recipe, made: dict[Column, fx.Node]) -> fx.Node:
    operands = [made[operand] if isinstance(operand, tuple) else operand for operand in recipe.operands]
    if recipe.like is None:
        return operands[0]
    return _call(recipe.target, operands, recipe.like, **recipe.like.kwargs)


def _vary(column: Column, pieces: Column, dim: int) -> bool:
    """Whether each operand is as long as its piece."""
    return all(
        isinstance(operand, fx.Node)
        and len(ir.shape(operand) or ()) == len(ir.shape(piece) or ())
        and _size(operand, dim) == _size(piece, dim)
        for operand, piece in zip(column, pieces, strict=True)
    )


def _same_constant(column: Column) -> bool:
    return not isinstance(column[0], fx.Node) and all(operand == column[0] for operand in column)


def _lies_beside(column: Column, pieces: Column, dim: int) -> bool:
    """Whether the operands say the same for all positions of a piece.

    Not those that differ among positions: these may be two streams, whose additions are branches apart.
    """
    first = column[0]
    if not isinstance(first, fx.Node):
        return False
    rank = len(ir.shape(pieces[0]) or ())
    same_form = {(len(ir.shape(node) or ()), ir.value(node).dtype) for node in column if isinstance(node, fx.Node)}
    if same_form != {(rank, ir.value(first).dtype)} or not all(isinstance(_size(piece, dim), int) for piece in pieces):
        return False
    return all(_size(operand, dim) == 1 for operand in column)


def _beside(column: Column, pieces: Column, dim: int) -> fx.Node:
    """Each operand spread over its piece, side by side."""
    rank = len(ir.shape(pieces[0]) or ())
    spread = [
        _call(aten.expand.default, [each, [_size(piece, dim) if at == dim else -1 for at in range(rank)]], each)
        for each, piece in zip(column, pieces, strict=True)
    ]
    return _call(aten.cat.default, [spread, dim], pieces[0])


def _size(node: fx.Node, dim: int) -> Any:
    return (ir.shape(node) or ())[dim]


def _call(target: Any, args: list[Any], like: fx.Node, **kwargs: Any) -> fx.Node:
    """A call of an op, with the source of a node that it stands for."""
    node = emit(like.graph, target, args, kwargs)
    node.meta = {**like.meta, "val": ir.value(node)}
    return node
