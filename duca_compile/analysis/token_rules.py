"""Which tokens of its operands an op reads to compute one token of its result.

One table, op by op. `rule(node, place)` answers: if the tokens of `node` lie at `place`, at which place does each
operand carry the *same* tokens? An operand that is left out is read whole. None means that the op is not known to be
token-wise there: it mixes tokens. The table is sound, not complete: a missing op only costs speed.

The rules of the table speak of the positions of an op's operands, never of the values there: one value may stand at
several, such as the query, key and value of an attention. `rule` alone sees to it that it is then read in one way.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.graph import ir
from duca_compile.graph.op_sets import CASTS, PRODUCTS_BY_NAME, SUMS_BY_NAME
from duca_compile.graph.slices import piece_of
from duca_compile.torch_private import OpOverload, Size

aten = torch.ops.aten


@dataclass(frozen=True)
class Place:
    """Where tokens lie in a value: dimension `dim` is `outer * tokens * inner`, flattened in that order.

    Tokens on a grid span several dimensions from `dim` on; `grid` is then their sizes, `outer` and `inner` are 1.
    Tokens that stand beside others in one sequence are those from `start` on of `span`; alone, `span` is 0.
    """

    dim: int
    tokens: Size
    outer: Size = 1
    inner: Size = 1
    grid: tuple[Size, ...] = ()
    start: Size = 0
    span: Size = 0

    @staticmethod
    def over(shape: tuple[Size, ...], first: int, stop: int) -> "Place":
        """The tokens of all positions along dimensions `first` to `stop`, less dimensions of size 1 at either end."""
        while first < stop - 1 and shape[first] == 1:
            first += 1
        while first < stop - 1 and shape[stop - 1] == 1:
            stop -= 1
        grid = shape[first:stop]
        return Place(first, math.prod(grid), grid=grid if len(grid) > 1 else ())

    @property
    def dims(self) -> range:
        return range(self.dim, self.dim + max(1, len(self.grid)))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of `dims`."""
        return self.grid or (self.span or self.outer * self.tokens * self.inner,)

    def among(self, start: Size, span: Size) -> "Place | None":
        """The same tokens where they stand from `start` on among `span` tokens; None if they do not lie in a row."""
        if self.grid or self.outer != 1 or self.inner != 1:
            return None
        return replace(self, start=self.start + start, span=span)

    def at(self, dim: int) -> "Place":
        return replace(self, dim=dim)

    def moved(self, origins: list[int]) -> "Place | None":
        """The place where `dims` came from; None if they did not lie side by side there, in this order."""
        first = origins[0]
        return self.at(first) if origins == list(range(first, first + len(origins))) else None

    def fits(self, shape: tuple[Size, ...]) -> bool:
        return self.dims.stop <= len(shape) and tuple(shape[dim] for dim in self.dims) == self.sizes

    def resized(self, shape: tuple[Size, ...], tokens: Size) -> list[Size]:
        """`shape` with `tokens` tokens at this place: all along the first dimension of a grid."""
        return [
            *shape[: self.dim],
            self.outer * tokens * self.inner,
            *[1 for _ in self.grid[1:]],
            *shape[self.dims.stop :],
        ]


Readings = list[tuple[fx.Node, Place]]
"""One for every position of an operand at which an op reads it token by token; it reads all other positions whole."""
Rule = Callable[[fx.Node, Place], Readings | None]


def rule(node: fx.Node, place: Place) -> dict[fx.Node, Place] | None:
    """The place of the same tokens in each operand that carries them; None if the op mixes tokens.

    Every operand is read in one way only: at its place, or, where it is left out, whole. An op that reads one value at
    two places, or at a place and whole, mixes tokens.
    """
    size = ir.shape(node)
    if node.op != "call_function" or ir.is_mutable(node) or (size is not None and not place.fits(size)):
        return None
    readings = _readings(node, place)
    return None if readings is None else _one_way_each(node, readings)


def _readings(node: fx.Node, place: Place) -> Readings | None:
    if ir.packet(node) is None:
        return _getitem(node, place) if getattr(node.target, "__name__", "") == "getitem" else None
    known = RULES.get(ir.packet(node))
    if known is not None:
        return known(node, place)
    if str(ir.packet(node)) in PRODUCTS_BY_NAME:
        return _rows(node, place)
    if str(ir.packet(node)) in SUMS_BY_NAME or _ends_sum(node):
        return _pointwise(node, place)
    return _pointwise(node, place) if is_pointwise(node) else None


def _ends_sum(node: fx.Node) -> bool:
    """Whether the op waits for a sum over processes. Other collectives mix tokens, and no step may keep the result of
    one that nobody has waited for: it is the end of them that mixes."""
    return torch_private.is_wait(node.target) and str(ir.packet(_arg(node, 0))) in SUMS_BY_NAME


def _one_way_each(node: fx.Node, readings: Readings) -> dict[fx.Node, Place] | None:
    found: dict[fx.Node, Place] = {}
    whole = Counter(_positions(node))
    for operand, place in readings:
        if found.setdefault(operand, place) != place:
            return None
        whole[operand] -= 1
    return None if any(whole[operand] for operand in found) else found


def _positions(node: fx.Node) -> list[fx.Node]:
    """The node at each position of an operand, in order: a value as often as it is read."""
    read: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), read.append)
    return read


def handed_on(node: fx.Node, place: Place) -> tuple[fx.Node, Place] | None:
    """Where the very tokens stand that the node takes out of a longer sequence, or joins with others to one."""
    rank = _rank(node)
    piece = piece_of(node)
    if piece is not None and piece.dim in place.dims:
        at = place.among(piece.start, (ir.shape(piece.source) or ())[piece.dim])
        return None if at is None else (piece.source, at)
    if ir.packet(node) is not aten.cat or not place.span or ir.argument(node, 1, "dim", 0) % rank != place.dim:
        return None
    start = 0
    for joined in _arg(node, 0):
        # torch joins an empty vector to values of any rank
        size = (ir.shape(joined) or ())[place.dim] if _rank(joined) == rank else 0
        if start == place.start and size == place.tokens:
            return joined, replace(place, start=0, span=0)
        start += size
    return None


def is_pointwise(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return False
    tags = node.target.tags
    if ir.packet(node) in CASTS:
        return True
    return torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags


def needs_size(node: fx.Node) -> bool:
    """Whether the op's result has other dimensions over fewer tokens, unless it is told their sizes.

    A single token, or the second dimension of a grid, must not be squeezed away.
    """
    return ir.packet(node) in (aten.view, aten.reshape, aten.expand, aten.squeeze)


def _arg(node: fx.Node, position: int) -> Any:
    return node.args[position]


def _rank(node: fx.Node) -> int:
    return len(ir.shape(node) or ())


def _aligned(operand: Any, node: fx.Node, place: Place, into: Readings) -> bool:
    """Adds `operand`, broadcast against `node`, at the dimensions that meet `place`; False on a contradiction.

    An operand that varies along a part of a grid only does not fit its place: it must be expanded there.
    """
    if not isinstance(operand, fx.Node):
        return True
    have, want = ir.shape(operand), ir.shape(node)
    if isinstance(ir.value(operand), torch.SymInt | torch.SymFloat):
        return True
    if have is None or want is None:
        return False
    shift = len(want) - len(have)
    met = [have[dim - shift] if dim >= shift else 1 for dim in place.dims]
    wanted = [want[dim] for dim in place.dims]
    if set(met) == {1} != set(wanted):
        return True
    broadcasts = all(size in (1, whole) for size, whole in zip(met, wanted, strict=True))
    if not broadcasts or place.dim < shift:
        return False
    into.append((operand, place.at(place.dim - shift)))
    return True


def _all_aligned(operands: Iterable[Any], node: fx.Node, place: Place) -> Readings | None:
    found: Readings = []
    return found if all(_aligned(operand, node, place, found) for operand in operands) else None


def _pointwise(node: fx.Node, place: Place) -> Readings | None:
    return _all_aligned(_positions(node), node, place)


def _features_last(features: Callable[[fx.Node], int]) -> Rule:
    """The first operand, token by token, where the op works on its last `features(node)` dimensions."""

    def apply(node: fx.Node, place: Place) -> Readings | None:
        return [(_arg(node, 0), place)] if place.dims.stop <= _rank(node) - features(node) else None

    return apply


def _other_dim(position: int, name: str, default: int | None = None) -> Rule:
    """The first operand, token by token, unless the op works along the tokens' dimension."""

    def apply(node: fx.Node, place: Place) -> Readings | None:
        dim = ir.argument(node, position, name, default)
        rank = _rank(_arg(node, 0))
        return [(_arg(node, 0), place)] if dim is not None and dim % rank not in place.dims else None

    return apply


def _reduction(node: fx.Node, place: Place) -> Readings | None:
    source = _arg(node, 0)
    dims = ir.argument(node, 1, "dim")
    have = ir.shape(source) if isinstance(source, fx.Node) else None
    if have is None or dims is None or dims == []:
        return None
    reduced = {dim % len(have) for dim in (dims if isinstance(dims, (list, tuple)) else [dims])}
    kept = list(range(len(have))) if ir.argument(node, 2, "keepdim", False) else sorted(set(range(len(have))) - reduced)
    return _moved(source, place, [kept[dim] for dim in place.dims], forbidden=reduced)


def _moved(source: fx.Node, place: Place, origins: list[int], forbidden: Iterable[int] = ()) -> Readings | None:
    origin = None if set(origins) & set(forbidden) else place.moved(origins)
    return None if origin is None else [(source, origin)]


def _reshape(node: fx.Node, place: Place) -> Readings | None:
    source = _arg(node, 0)
    have, want = ir.shape(source), ir.shape(node)
    assert have is not None
    assert want is not None
    if node.target is aten.view.dtype or 0 in have:
        return None
    before = math.prod(want[: place.dim]) * place.outer
    after = place.inner * math.prod(want[place.dims.stop :])
    for dim in range(len(have)):
        left, right = math.prod(have[:dim]), math.prod(have[dim + 1 :])
        if before % left == 0 and after % right == 0:
            at = replace(place, dim=dim, outer=before // left, inner=after // right, grid=())
            if at.sizes == (have[dim],):
                return [(source, at)] if not place.span or at.outer == at.inner == 1 else None
    first = next((dim for dim in range(len(have), -1, -1) if math.prod(have[:dim]) == before), None)
    stop = next((dim for dim in range(len(have) + 1) if math.prod(have[dim:]) == after), None)
    if first is None or stop is None or stop <= first or place.span:
        return None
    return [(source, Place.over(have, first, stop))]


def _permute(node: fx.Node, place: Place) -> Readings | None:
    source = _arg(node, 0)
    rank = _rank(source)
    order = list(range(rank))
    if ir.packet(node) is aten.permute:
        order = [dim % rank for dim in _arg(node, 1)]
    elif ir.packet(node) is aten.transpose:
        a, b = _arg(node, 1) % rank, _arg(node, 2) % rank
        order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    return _moved(source, place, [order[dim] for dim in place.dims])


def _unsqueeze(node: fx.Node, place: Place) -> Readings | None:
    dim = _arg(node, 1) % _rank(node)
    if dim in place.dims:
        return None
    return [(_arg(node, 0), place.at(place.dim - (dim < place.dim)))]


def _squeeze(node: fx.Node, place: Place) -> Readings | None:
    have = ir.shape(_arg(node, 0)) or ()
    dims = ir.argument(node, 1, "dim", list(range(len(have))))
    gone = {dim % len(have) for dim in (dims if isinstance(dims, (list, tuple)) else [dims])}
    kept = [dim for dim in range(len(have)) if dim not in gone or have[dim] != 1]
    return _moved(_arg(node, 0), place, [kept[dim] for dim in place.dims])


def _select(node: fx.Node, place: Place) -> Readings | None:
    gone = ir.argument(node, 1, "dim", 0) % _rank(_arg(node, 0))
    return _moved(_arg(node, 0), place, [dim + (gone <= dim) for dim in place.dims])


def _expand(node: fx.Node, place: Place) -> Readings | None:
    return _all_aligned([_arg(node, 0)], node, place)


def _cat(node: fx.Node, place: Place) -> Readings | None:
    dim = ir.argument(node, 1, "dim", 0) % _rank(node)
    pieces: Any = _arg(node, 0)
    if dim in place.dims or len({_rank(piece) for piece in pieces}) > 1:
        return None
    origin = place.at(place.dim - (dim < place.dim)) if ir.packet(node) is aten.stack else place
    return [(piece, origin) for piece in pieces]


def _getitem(node: fx.Node, place: Place) -> Readings | None:
    """One of several results: the place is asked of the op that made them all."""
    parent = _arg(node, 0)
    assert isinstance(parent, fx.Node)
    return [(parent, place)] if rule(parent, place) is not None else None


def _attention(node: fx.Node, place: Place) -> Readings | None:
    """Queries are independent; keys and values are read whole, unless the tokens lie in a batch dimension.

    A mask `[..., queries, keys]` meets the result `[..., queries, features]` in every dimension that tokens can lie in.
    """
    query, key, val = (_arg(node, position) for position in range(3))
    rank = _rank(node)
    mask = ir.argument(node, 3, "attn_mask")
    among_queries = place.dims.stop == rank - 1
    if isinstance(mask, fx.Node) and _rank(mask) < 2:
        return None  # torch's fused kernels fail on it, and which kernel runs depends on the operands
    if ir.argument(node, 4, "dropout_p", 0.0) or place.dims.stop == rank or (place.grid and among_queries):
        return None
    if among_queries:
        found = [(query, place.at(_rank(query) - 2))]
        fine = not ir.argument(node, 5, "is_causal", False) and _aligned(mask, node, place, found)
        return found if fine else None
    if ir.argument(node, 7, "enable_gqa", False) and rank - 3 in place.dims:
        return None
    return _all_aligned((query, key, val, mask), node, place)


def _matmul(node: fx.Node, place: Place) -> Readings | None:
    return _product(_arg(node, 0), _arg(node, 1), node, place)


def _product(left: fx.Node, right: fx.Node, node: fx.Node, place: Place) -> Readings | None:
    rank = _rank(node)
    ranks = {_rank(left), _rank(right)}
    if min(ranks) < 2:
        return None
    if _rank(right) == 2 and place.dims.stop < rank:
        return [(left, place)]
    if place.grid and place.dims.stop >= rank - 1:
        return None
    if place.dim == rank - 2:
        return [(left, place.at(_rank(left) - 2))]
    if place.dim == rank - 1:
        return [(right, place.at(_rank(right) - 1))]
    return _all_aligned((left, right), node, place)


def _baddbmm(node: fx.Node, place: Place) -> Readings | None:
    added, left, right = node.args[:3]
    found = _product(left, right, node, place)  # type: ignore[arg-type]
    return found if found is not None and _aligned(added, node, place, found) else None


def _einsum(node: fx.Node, place: Place) -> Readings | None:
    """Every operand that has the tokens' labels, at these. Without ellipsis, and without diagonals."""
    equation, operands = str(_arg(node, 0)).replace(" ", ""), _arg(node, 1)
    if "->" not in equation or "." in equation:
        return None
    terms, result = equation.split("->")
    labels = [result[dim] for dim in place.dims]
    found: Readings = []
    for operand, term in zip(operands, terms.split(","), strict=True):
        if len(set(term)) < len(term):
            return None
        if not set(labels) & set(term):
            continue
        origin = place.moved([term.index(label) for label in labels]) if set(labels) <= set(term) else None
        if origin is None or not origin.fits(ir.shape(operand) or ()):
            return None
        found.append((operand, origin))
    return found


def _addmm(node: fx.Node, place: Place) -> Readings | None:
    bias, left = _arg(node, 0), _arg(node, 1)
    found = [(left, place)]
    return found if place.dims == range(1) and _aligned(bias, node, place, found) else None


def _convolution(node: fx.Node, place: Place) -> Readings | None:
    """Token-wise over samples, and over positions where every kernel dimension and stride is 1."""
    kernel = (ir.shape(_arg(node, 1)) or ())[2:]
    source = _arg(node, 0)
    if _rank(node) != len(kernel) + 2:
        return None
    if place.dims == range(1):
        return [(source, place)]
    stride = ir.argument(node, 3, "stride", 1)
    steps = set(stride) if isinstance(stride, (list, tuple)) else {stride}
    plain = set(kernel) == steps == {1} and (ir.shape(source) or ())[2:] == (ir.shape(node) or ())[2:]
    return [(source, place)] if plain and place.dim >= 2 else None


def _embedding(node: fx.Node, place: Place) -> Readings | None:
    return [(_arg(node, 1), place)] if place.dims.stop <= _rank(_arg(node, 1)) else None


_rows = _features_last(lambda node: 1)


def _scaled_product(node: fx.Node, place: Place) -> Readings | None:
    """The rows have one scale together, which is read whole, or one each."""
    left, scale = _arg(node, 0), _arg(node, 2)
    if place.dims != range(1):
        return None
    size = ir.shape(scale)
    if size in ((), (1,), (1, 1)):
        return [(left, place)]
    return [(left, place), (scale, place)] if size == ((ir.shape(left) or ())[0], 1) else None


RULES: dict[Any, Rule] = {
    aten.linear: _features_last(lambda node: 1),
    aten.layer_norm: _features_last(lambda node: len(_arg(node, 1))),
    aten.rms_norm: _features_last(lambda node: len(_arg(node, 1))),
    aten.view_as_complex: _features_last(lambda node: 0),
    aten.view_as_real: _features_last(lambda node: 1),
    aten.softmax: _other_dim(1, "dim"),
    aten._softmax: _other_dim(1, "dim"),
    aten.log_softmax: _other_dim(1, "dim"),
    aten.glu: _other_dim(1, "dim", -1),
    aten.topk: _other_dim(2, "dim", -1),
    aten.slice: _other_dim(1, "dim", 0),
    aten.split: _other_dim(2, "dim", 0),
    aten.split_with_sizes: _other_dim(2, "dim", 0),
    aten.chunk: _other_dim(2, "dim", 0),
    aten.mean: _reduction,
    aten.sum: _reduction,
    aten.amax: _reduction,
    aten.amin: _reduction,
    aten.view: _reshape,
    aten.reshape: _reshape,
    aten.permute: _permute,
    aten.transpose: _permute,
    aten.t: _permute,
    aten.unsqueeze: _unsqueeze,
    aten.squeeze: _squeeze,
    aten.select: _select,
    aten.unbind: _select,
    aten.expand: _expand,
    aten.cat: _cat,
    aten.stack: _cat,
    aten.scaled_dot_product_attention: _attention,
    aten.matmul: _matmul,
    aten.mm: _matmul,
    aten.bmm: _matmul,
    aten.baddbmm: _baddbmm,
    aten.einsum: _einsum,
    aten.addmm: _addmm,
    aten._int_mm: _matmul,
    aten._scaled_mm: _scaled_product,
    aten._weight_int8pack_mm: _rows,
    aten._weight_int4pack_mm_for_cpu: _rows,
    aten.conv1d: _convolution,
    aten.conv2d: _convolution,
    aten.conv3d: _convolution,
    aten.embedding: _embedding,
}
