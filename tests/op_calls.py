"""Calls of every op that has a token rule, over operands of drawn shapes: what the rules are held against.

Sizes come from a small palette, so that operands often have equal shapes and can be the same value.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from duca_compile.torch_private import OpOverload

aten = torch.ops.aten
FLOAT, WHOLE, TRUTH, COMPLEX = torch.float64, torch.int64, torch.bool, torch.complex128
BYTE, NIBBLES, FLOAT8 = torch.int8, torch.uint8, torch.float8_e4m3fn


@dataclass(frozen=True)
class Operand:
    """A tensor to come. Whole numbers are indices below `below`. A matrix may lie in memory `by_columns`."""

    shape: tuple[int, ...]
    dtype: torch.dtype = FLOAT
    below: int = 3
    by_columns: bool = False

    def values(self, generator: torch.Generator) -> Tensor:
        if self.dtype in (WHOLE, TRUTH, BYTE, NIBBLES):
            return torch.randint(self.below, self.shape, generator=generator).to(self.dtype)
        made = (torch.rand(self.shape, generator=generator, dtype=torch.float64) + 0.1).to(self.dtype)
        return made.t().contiguous().t() if self.by_columns else made


@dataclass(frozen=True)
class Call:
    """An op and its arguments, with an `Operand` wherever a tensor stands."""

    target: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def operands(self) -> list[Operand]:
        return [leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, Operand)]

    def filled(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with these in place of the operands, in order."""
        leaves, form = tree_flatten((self.args, self.kwargs))
        left = iter(values)
        args, kwargs = tree_unflatten([next(left) if isinstance(leaf, Operand) else leaf for leaf in leaves], form)
        return args, kwargs


def aliasings(operands: Sequence[Operand]) -> Iterator[tuple[int, ...]]:
    """Every way in which operands can be the same value: for each, the first one that it is."""
    if not operands:
        yield ()
        return
    for before in aliasings(operands[:-1]):
        for first in sorted(set(before)):
            if operands[first] == operands[-1]:
                yield (*before, first)
        yield (*before, len(before))


class Drawn:
    """Draws what the calls are made of."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.palette = data.draw(st.sampled_from(PALETTES))

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def size(self) -> int:
        return int(self.pick(*self.palette))

    def shape(self, least: int, most: int) -> tuple[int, ...]:
        return tuple(self.size() for _ in range(self.pick(*range(least, most + 1))))

    def dim(self, rank: int) -> int:
        return int(self.pick(*range(-rank, rank)))

    def some(self, count: int) -> list[int]:
        """Some of `count` dimensions, each by its positive or its negative number."""
        chosen = self.draw(st.lists(st.sampled_from(range(count)), unique=True, min_size=1))
        return [dim - self.pick(0, count) for dim in chosen]

    def broadcast(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to this one."""
        return tuple(self.pick(size, size, 1) for size in shape[self.pick(0, 0, *range(len(shape) + 1)) :])


Make = Callable[[Drawn], Call]
PALETTES = [(size, *more) for more in ((), (), (1,), (4,), (3, 1)) for size in (2, 3, 6)] + [(3, 0)]


def call(target: Any, *args: Any, **kwargs: Any) -> Call:
    return Call(target, args, kwargs)


def linear(d: Drawn) -> Call:
    features, out = d.size(), d.size()
    weight = d.pick((out, features), (out, features), (features,))
    bias = [Operand((out,))] if len(weight) == 2 and d.pick(True, False) else []
    return call(aten.linear.default, Operand((*d.shape(0, 3), features)), Operand(weight), *bias)


def norm(target: Any, most: int) -> Make:
    def make(d: Drawn) -> Call:
        normalized = d.shape(1, 2)
        weights = [Operand(normalized) for _ in range(d.pick(*range(most + 1)))]
        return call(target, Operand((*d.shape(0, 3), *normalized)), list(normalized), *weights)

    return make


def along(target: Any, *rest: Any) -> Make:
    """An op that works along one dimension."""

    def make(d: Drawn) -> Call:
        shape = d.shape(1, 4)
        return call(target, Operand(shape), d.dim(len(shape)), *rest)

    return make


def glu(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    dim = d.dim(len(shape))
    even = list(shape)
    even[dim] *= 2
    return call(aten.glu.default, Operand(tuple(even)), *([dim] if dim != -1 else d.pick([], [-1])))


def largest(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    dim = d.dim(len(shape))
    return call(aten.topk.default, Operand(shape), d.pick(*range(shape[dim] + 1)), dim)


def cut(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    start, stop, step = d.pick(None, 0, 1, -2), d.pick(None, 2, -1, 2**63 - 1), d.pick(1, 1, 2)
    return call(aten.slice.Tensor, Operand(shape), d.dim(len(shape)), start, stop, step)


def parts(target: Any) -> Make:
    def make(d: Drawn) -> Call:
        shape = d.shape(1, 4)
        dim = d.dim(len(shape))
        size: Any = d.pick(1, 2, 3)
        if target is aten.split_with_sizes.default:
            first = d.pick(*range(shape[dim] + 1))
            size = [first, shape[dim] - first]
        return call(target, Operand(shape), size, dim)

    return make


def reduction(whole: Any, over: Any) -> Make:
    def make(d: Drawn) -> Call:
        shape = d.shape(1, 4)
        dims: Any = d.some(len(shape))
        if over is not aten.amax.default and over is not aten.amin.default:
            dims = d.pick(dims, dims, dims, None)
            if whole is not None and dims is None:
                return call(whole, Operand(shape))
        return call(over, Operand(shape), dims, d.pick(True, False))

    return make


def reshape(target: Any) -> Make:
    """The prime factors of the sizes, grouped anew, with dimensions of size 1 in between."""

    def make(d: Drawn) -> Call:
        source = d.shape(1, 4)
        if 0 in source:
            return call(target, Operand(source), d.draw(st.permutations(source)))
        factors = [prime for size in source for prime in {1: [], 4: [2, 2], 6: [2, 3]}.get(size, [size])]
        if d.pick(False, False, True):
            factors = d.draw(st.permutations(factors))
        sizes: list[int] = []
        for factor in factors:
            if sizes and d.pick(True, False):
                sizes[-1] *= factor
            else:
                sizes += [1] * d.pick(0, 0, 0, 1) + [factor]
        return call(target, Operand(source), sizes + [1] * d.pick(0, 0, 1))

    return make


def view(d: Drawn) -> Call:
    if d.pick(True, True, True, False):
        return reshape(aten.view.default)(d)
    return call(aten.view.dtype, Operand(d.shape(1, 3)), d.pick(torch.int64, torch.float32))


def permute(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    order = d.draw(st.permutations(range(len(shape))))
    return call(aten.permute.default, Operand(shape), [dim - d.pick(0, len(shape)) for dim in order])


def transpose(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    return call(aten.transpose.int, Operand(shape), d.dim(len(shape)), d.dim(len(shape)))


def unsqueeze(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    return call(aten.unsqueeze.default, Operand(shape), d.dim(len(shape) + 1))


def squeeze(d: Drawn) -> Call:
    shape = tuple(d.pick(size, 1) for size in d.shape(1, 5))
    which = d.pick("all", "one", "some")
    if which == "all":
        return call(aten.squeeze.default, Operand(shape))
    if which == "one":
        return call(aten.squeeze.dim, Operand(shape), d.dim(len(shape)))
    return call(aten.squeeze.dims, Operand(shape), d.some(len(shape)))


def select(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    return call(aten.select.int, Operand(shape), d.dim(len(shape)), d.pick(0, -1, 1))


def expand(d: Drawn) -> Call:
    shape = tuple(d.pick(size, 1) for size in d.shape(1, 4))
    sizes = [d.size() if size == 1 else d.pick(-1, size) for size in shape]
    return call(aten.expand.default, Operand(shape), [*d.shape(0, 1), *sizes])


def cat(d: Drawn) -> Call:
    shape = d.shape(1, 4)
    dim = d.dim(len(shape))
    pieces = []
    for _ in range(d.pick(1, 2, 3)):
        piece = list(shape)
        piece[dim] = d.size()
        pieces.append(d.pick(Operand(tuple(piece)), Operand(tuple(piece)), Operand(tuple(piece)), Operand((0,))))
    return call(aten.cat.default, pieces, dim)


def stack(d: Drawn) -> Call:
    shape = d.shape(1, 3)
    return call(aten.stack.default, [Operand(shape)] * d.pick(1, 2, 3), d.dim(len(shape) + 1))


def attention(d: Drawn) -> Call:
    batch = d.shape(0, 2)
    queries, keys, features, out = d.size(), d.size(), d.size(), d.size()
    heads = d.pick(1, 2) if len(batch) == 2 else 1
    most = (*batch[:-1], batch[-1] * heads) if batch else batch
    query = Operand((*d.pick(most, most, d.broadcast(most)), queries, features))
    shared = d.pick(batch, batch, d.broadcast(batch)) if heads == 1 else batch
    key, val = Operand((*shared, keys, features)), Operand((*shared, keys, out))
    mask, kwargs = None, {}
    if heads > 1:
        kwargs["enable_gqa"] = True
    if d.pick(True, False):
        mask = Operand(d.broadcast((*most, queries, keys)), d.pick(FLOAT, TRUTH), below=2)
    return call(
        aten.scaled_dot_product_attention.default,
        query,
        key,
        val,
        mask,
        0.0,
        mask is None and d.pick(True, False),
        **kwargs,
    )


def matmul(d: Drawn) -> Call:
    batch = d.shape(0, 2)
    rows, inner, columns = d.size(), d.size(), d.size()
    left = d.pick((inner,), (*batch, rows, inner), (*d.broadcast(batch), rows, inner))
    right = d.pick((inner,), (*batch, inner, columns), (*d.broadcast(batch), inner, columns))
    return call(aten.matmul.default, Operand(left), Operand(right))


def product(target: Any, batches: int) -> Make:
    def make(d: Drawn) -> Call:
        batch = d.shape(batches, batches)
        rows, inner, columns = d.size(), d.size(), d.size()
        factors = Operand((*batch, rows, inner)), Operand((*batch, inner, columns))
        if target not in (aten.baddbmm.default, aten.addmm.default):
            return call(target, *factors)
        whole = (*batch, rows, columns)
        return call(target, Operand(d.pick(whole, d.broadcast(whole))), *factors)

    return make


def whole_numbers(d: Drawn) -> Call:
    rows, inner, columns = d.size(), d.size(), d.size()
    return call(aten._int_mm.default, Operand((rows, inner), BYTE, 9), Operand((inner, columns), BYTE, 9))


def packed_bytes(d: Drawn) -> Call:
    """Kernels of this op read whole blocks of features and columns."""
    rows, inner, columns = d.size(), d.pick(32, 64), d.pick(32, 64)
    weight, scales = Operand((columns, inner), BYTE, 9), Operand((columns,), torch.float32)
    return call(aten._weight_int8pack_mm.default, Operand((rows, inner), torch.float32), weight, scales)


def packed_nibbles(d: Drawn) -> Call:
    rows, inner, columns, group = d.size(), d.pick(32, 64), d.pick(32, 64), 32
    weight = Operand((columns, inner // 2), NIBBLES, 256)
    scales = Operand((inner // group, columns, 2), torch.float32)
    return call(aten._weight_int4pack_mm_for_cpu.default, Operand((rows, inner), torch.float32), weight, group, scales)


def scaled(d: Drawn) -> Call:
    """One scale for all rows, or one for each. Kernels take features and columns by sixteens."""
    rows, inner, columns, each = d.size(), d.pick(16, 32), d.pick(16, 32), d.pick(True, False)
    factors = Operand((rows, inner), FLOAT8), Operand((inner, columns), FLOAT8, by_columns=True)
    sizes = ((rows, 1), (1, columns)) if each else ((), ())
    scales = [Operand(size, torch.float32) for size in sizes]
    return call(aten._scaled_mm.default, *factors, *scales, out_dtype=torch.float32)


EQUATIONS = (
    "btc,bsc->bts",
    "btc,bsc,bsd->btd",
    "tc,tc->t",
    "ab,bc->ac",
    "bij,bjk->bik",
    "hwc,cd->hwd",
    "bthd,bshd->bhts",
)


def einsum(d: Drawn) -> Call:
    equation = d.pick(*EQUATIONS, None, None, None)
    if equation is None:
        terms = [
            "".join(d.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))) for _ in range(d.pick(1, 2, 3))
        ]
        shown = sorted(set("".join(terms)))
        result = d.draw(st.lists(st.sampled_from(shown), unique=True))
        equation = f"{d.pick(',', ' , ').join(terms)}->{''.join(result)}" if d.pick(1, 2, 3) > 1 else ",".join(terms)
    sizes = {label: d.size() for label in sorted(set(equation) - set(" ,->"))}
    terms = equation.split("->")[0].replace(" ", "").split(",")
    operands = [Operand(tuple(sizes[label] if d.pick(*range(12)) else 1 for label in term)) for term in terms]
    return call(aten.einsum.default, equation, operands)


def convolution(target: Any, padded: Any, rank: int) -> Make:
    def make(d: Drawn) -> Call:
        groups = d.pick(1, 1, 2)
        inner, outer, kernel = d.size(), d.size() * groups, d.shape(rank, rank)
        kernel = d.pick(kernel, (1,) * rank, (1,) * rank)
        source = Operand((d.size(), inner * groups, *d.shape(rank, rank)))
        weight = Operand((outer, inner, *kernel))
        bias = d.pick(None, Operand((outer,)))
        stride = [d.pick(1, 1, 2) for _ in range(rank)]
        if d.pick(False, False, True):
            return call(padded, source, weight, bias, stride, d.pick("same", "valid"), [1] * rank, groups)
        padding, dilation = ([d.pick(*sizes) for _ in range(rank)] for sizes in ((0, 0, 1), (1, 1, 2)))
        return call(target, source, weight, bias, stride, padding, dilation, groups)

    return make


def embedding(d: Drawn) -> Call:
    rows = max(1, d.size())
    table = d.pick(Operand((rows, d.size())), Operand((rows, d.size()), WHOLE, rows))
    return call(aten.embedding.default, table, Operand(d.pick(table.shape, d.shape(1, 3)), WHOLE, rows))


CALLS: dict[Any, Make] = {
    aten.linear: linear,
    aten.layer_norm: norm(aten.layer_norm.default, 2),
    aten.rms_norm: norm(aten.rms_norm.default, 1),
    aten.view_as_complex: lambda d: call(aten.view_as_complex.default, Operand((*d.shape(0, 3), 2))),
    aten.view_as_real: lambda d: call(aten.view_as_real.default, Operand(d.shape(1, 4), COMPLEX)),
    aten.softmax: along(aten.softmax.int),
    aten._softmax: along(aten._softmax.default, False),
    aten.log_softmax: along(aten.log_softmax.int),
    aten.glu: glu,
    aten.topk: largest,
    aten.slice: cut,
    aten.split: parts(aten.split.Tensor),
    aten.split_with_sizes: parts(aten.split_with_sizes.default),
    aten.chunk: parts(aten.chunk.default),
    aten.mean: reduction(aten.mean.default, aten.mean.dim),
    aten.sum: reduction(aten.sum.default, aten.sum.dim_IntList),
    aten.amax: reduction(None, aten.amax.default),
    aten.amin: reduction(None, aten.amin.default),
    aten.view: view,
    aten.reshape: reshape(aten.reshape.default),
    aten.permute: permute,
    aten.transpose: transpose,
    aten.t: lambda d: call(aten.t.default, Operand(d.shape(1, 2))),
    aten.unsqueeze: unsqueeze,
    aten.squeeze: squeeze,
    aten.select: select,
    aten.unbind: along(aten.unbind.int),
    aten.expand: expand,
    aten.cat: cat,
    aten.stack: stack,
    aten.scaled_dot_product_attention: attention,
    aten.matmul: matmul,
    aten.mm: product(aten.mm.default, 0),
    aten.bmm: product(aten.bmm.default, 1),
    aten.baddbmm: product(aten.baddbmm.default, 1),
    aten.einsum: einsum,
    aten.addmm: product(aten.addmm.default, 0),
    aten._int_mm: whole_numbers,
    aten._scaled_mm: scaled,
    aten._weight_int8pack_mm: packed_bytes,
    aten._weight_int4pack_mm_for_cpu: packed_nibbles,
    aten.conv1d: convolution(aten.conv1d.default, aten.conv1d.padding, 1),
    aten.conv2d: convolution(aten.conv2d.default, aten.conv2d.padding, 2),
    aten.conv3d: convolution(aten.conv3d.default, aten.conv3d.padding, 3),
    aten.embedding: embedding,
}


def pointwise_ops() -> list[OpOverload]:
    """Every op that torch itself calls pointwise and that makes a tensor."""
    packets = [getattr(aten, name) for name in sorted(dir(aten))]
    overloads = [getattr(each, name) for each in packets if hasattr(each, "overloads") for name in each.overloads()]
    tagged = [op for op in overloads if torch.Tag.pointwise in op.tags and not op._schema.is_mutable]
    return [op for op in tagged if all(str(result.type) == "Tensor" for result in op._schema.returns)]


def pointwise(op: OpOverload) -> Make:
    """Operands that broadcast against each other, of the first type that the op takes."""

    def make(d: Drawn) -> Call:
        shape = d.shape(1, 4)
        shapes = [d.pick(shape, d.broadcast(shape)) for _ in op._schema.arguments]
        for dtype in (FLOAT, WHOLE, TRUTH):
            made = _pointwise_call(op, shapes, dtype)
            if runs(made):
                return made
        return made

    return make


def _pointwise_call(op: OpOverload, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> Call:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument, shape in zip(op._schema.arguments, shapes, strict=True):
        kind = str(argument.type)
        if argument.has_default_value() and "Tensor" not in kind and kind != "Optional[number]":
            continue
        truth = argument.name == "condition" or (argument.name == "mask" and "bool" not in kind)
        value: Any = {"bool": False, "int": 1, "Optional[str]": "floor"}.get(kind, 2 if dtype is WHOLE else 0.5)
        if "Tensor" in kind:
            value = Operand(shape, TRUTH if truth else dtype, 2)
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    return Call(op, tuple(args), kwargs)


def runs(made: Call) -> bool:
    values = [operand.values(torch.Generator().manual_seed(0)) for operand in made.operands]
    args, kwargs = made.filled(values)
    try:
        made.target(*args, **kwargs)
    except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError):
        return False
    return True


def factorings(size: int) -> Iterator[tuple[int, int, int]]:
    """`size` as outer * tokens * inner, with more than one token."""
    for outer in range(1, size + 1):
        for inner in range(1, size // outer + 1):
            if size % (outer * inner) == 0 and size // outer // inner > 1:
                yield outer, size // outer // inner, inner
