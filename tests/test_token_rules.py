"""Soundness of the token rules: perturb one token of a source, and only what the rules allow may move."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from duca_compile.analysis.facts import TokenPath
from duca_compile.analysis.token_paths import Liveness, path_at
from duca_compile.analysis.token_rules import RULES, Place, handed_on, rule
from duca_compile.graph import ir
from op_calls import CALLS, Drawn, pointwise, pointwise_ops
from rule_checks import check_call, check_calls, check_path, places, tokens_first

Op = Callable[[Tensor], Tensor]
TOKENS = 5
EXAMPLES = [100, pytest.param(1_000, marks=pytest.mark.slow)]


def stacked(x: Tensor) -> Tensor:
    """As one batch of matrices."""
    return x.reshape(-1, *x.shape[-2:])


def weight(*size: int) -> Tensor:
    """Numbers from -1 to 1; a release does not trace a generator."""
    return (12.9898 * torch.arange(1.0, 1 + math.prod(size))).sin().reshape(size)


def scale_rows(x: Tensor) -> Tensor:
    return x * weight(*x.shape[1:])


def attend(x: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(x, x.flip(0), x.flip(0)) if x.dim() > 2 else x


def cross(x: Tensor) -> Tensor:
    keys = weight(3, x.shape[-1])
    return torch.nn.functional.scaled_dot_product_attention(
        x, keys.expand(*x.shape[:-2], 3, -1), keys.expand(*x.shape[:-2], 3, -1)
    )


def masked(x: Tensor) -> Tensor:
    """Another mask for every query."""
    keys = weight(3, x.shape[-1]).expand(*x.shape[:-2], 3, -1)
    return torch.nn.functional.scaled_dot_product_attention(x, keys, keys, attn_mask=weight(x.shape[-2], 3))


def merge(at: int) -> Op:
    return lambda x: x.flatten(at % (x.dim() - 1), at % (x.dim() - 1) + 1) if x.dim() > 2 else x


def split(at: int) -> Op:
    def apply(x: Tensor) -> Tensor:
        dim = at % x.dim()
        factor = next((f for f in (2, 3, 5) if x.shape[dim] % f == 0), 1)
        return x.unflatten(dim, (factor, x.shape[dim] // factor)) if x.dim() < 5 else x

    return apply


OPS: dict[str, Op] = {
    "gelu": torch.nn.functional.gelu,
    "add one": lambda x: x + 1,
    "clamp": lambda x: x.clamp(-1, 1),
    "scale rows": scale_rows,
    "add itself": lambda x: x + x.roll(1, -1),
    "double": lambda x: x.double().float(),
    "linear": lambda x: torch.nn.functional.linear(x, weight(x.shape[-1], x.shape[-1])),
    "widen": lambda x: torch.nn.functional.linear(x, weight(6, x.shape[-1])),
    "layer norm": lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]),
    "layer norm over two": lambda x: torch.nn.functional.layer_norm(x, x.shape[-2:]),
    "rms norm": lambda x: torch.nn.functional.rms_norm(x, x.shape[-1:]),
    "softmax last": lambda x: x.softmax(-1),
    "softmax first": lambda x: x.softmax(0),
    "swap first": lambda x: x.transpose(0, 1),
    "swap last": lambda x: x.transpose(-1, -2),
    "reverse dims": lambda x: x.permute(*reversed(range(x.dim()))),
    "merge 0": merge(0),
    "merge 1": merge(1),
    "split 0": split(0),
    "split 1": split(1),
    "split 2": split(2),
    "chunk and swap": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "chunk along tokens": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "unbind and stack": lambda x: torch.stack(x.unbind(0)[::-1], 0),
    "stack elsewhere": lambda x: torch.stack([x, -x], 1) if x.dim() < 5 else x,
    "unsqueeze": lambda x: x.unsqueeze(1).expand(*x.shape[:1], 2, *x.shape[1:]) if x.dim() < 5 else x,
    "select": lambda x: x.select(0, 0) if x.dim() > 2 else x,
    "slice last": lambda x: x[..., 1:] if x.shape[-1] > 2 else x,
    "slice first": lambda x: x[:-1] if x.shape[0] > 1 else x,
    "mean kept": lambda x: x - x.mean(-1, keepdim=True),
    "mean over the first": lambda x: x - x.mean(0, keepdim=True),
    "sum": lambda x: x.sum(1) if x.dim() > 2 else x,
    "gram": lambda x: x @ x.transpose(-1, -2),
    "matmul left": lambda x: weight(4, x.shape[-2]) @ x,
    "einsum": lambda x: torch.einsum("abc,cd->adb", stacked(x), weight(x.shape[-1], 4)),
    "einsum of two": lambda x: torch.einsum("abc,adc->abd", stacked(x), stacked(x).sin()),
    "matmul right": lambda x: x @ weight(x.shape[-1], 4),
    "baddbmm": lambda x: torch.baddbmm(
        weight(stacked(x).shape[-2], 4),
        stacked(x),
        weight(1, x.shape[-1], 4).expand(stacked(x).shape[0], -1, -1),
    ),
    "self-attention": attend,
    "cross-attention": cross,
    "masked cross-attention": masked,
    "cumulative sum": lambda x: x.cumsum(1),
    "sort": lambda x: x.sort(-1).values,
}


def composed(names: list[str]) -> Op:
    def run(x: Tensor) -> Tensor:
        for name in names:
            x = OPS[name](x)
        return x

    return run


def traced(run: Op, x: Tensor) -> fx.Graph:
    return make_fx(run, tracing_mode="fake", pre_dispatch=True)(x).graph


def dependence(graph: fx.Graph, place: Place) -> dict[fx.Node, set[Place] | None]:
    """What of each input the tokens at `place` of the result read: the same tokens at these places, or (None) all."""
    result = ir.output_node(graph).all_input_nodes[0]
    reads: dict[fx.Node, set[Place] | None] = {}
    seen: set[tuple[fx.Node, Place | None]] = set()
    stack: list[tuple[fx.Node, Place | None]] = [(result, place)]
    while stack:
        node, at = stack.pop()
        if (node, at) in seen:
            continue
        seen.add((node, at))
        if node.op == "placeholder":
            known = reads.setdefault(node, set())
            reads[node] = None if at is None or known is None else known | {at}
            continue
        handed = handed_on(node, at) if at is not None else None
        if handed is not None:
            stack.append(handed)
            continue
        needed = rule(node, at) if at is not None else None
        for operand in node.all_input_nodes:
            stack.append((operand, needed.get(operand) if needed is not None else None))
    return reads


@pytest.mark.parametrize("examples", EXAMPLES)
def test_perturbing_a_token_moves_only_that_token(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        names=st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=7),
        dim=st.integers(0, 4),
        token=st.integers(0, TOKENS - 1),
        dims=st.permutations([2, TOKENS, 4]),
    )
    def check(names: list[str], dim: int, token: int, dims: list[int]) -> None:
        run, x = composed(names), torch.randn(dims)
        graph, result = traced(run, x), run(x)
        for at in range(result.dim()):
            for outer in range(1, result.shape[at] + 1):
                if result.shape[at] % (outer * TOKENS) == 0:
                    check_place(graph, run, x, Place(at, TOKENS, outer, result.shape[at] // outer // TOKENS), token)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_perturbing_a_token_of_a_grid_moves_only_that_token(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        names=st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=7),
        token=st.integers(0, 5),
        dims=st.permutations([2, 3, 2, 4]),
    )
    def check(names: list[str], token: int, dims: list[int]) -> None:
        run, x = composed(names), torch.randn(dims)
        graph, result = traced(run, x), run(x)
        for first in range(result.dim()):
            for stop in range(first + 1, result.dim() + 1):
                if math.prod(result.shape[first:stop]) == 6:
                    check_place(graph, run, x, Place.over(tuple(result.shape), first, stop), token)

    check()


def check_place(graph: fx.Graph, run: Op, x: Tensor, place: Place, token: int) -> None:
    source = ir.placeholders(graph)[0]
    reads = dependence(graph, place).get(source, set())
    if reads is not None and len(reads) == 1:
        (origin,) = reads
        perturbed = x.clone()
        apart = tokens_first(perturbed, origin)
        assert apart.data_ptr() == perturbed.data_ptr(), "a view, so that writing to it perturbs the source"
        apart[token] += 1.5
        change = tokens_first(run(perturbed) - run(x), place).abs().flatten(1).amax(1)
        others = [other for other in range(place.tokens) if other != token]
        assert float(change[others].max()) == 0, (place, origin, ir.render(graph))
    elif not reads and reads is not None:
        assert torch.equal(run(torch.randn_like(x)), run(x)), ir.render(graph)


def test_the_table_finds_what_it_should() -> None:
    """Guards the soundness test against a table that refuses everything."""

    def body(x: Tensor) -> Tensor:
        hidden = torch.nn.functional.linear(torch.nn.functional.layer_norm(x, x.shape[-1:]), weight(8, x.shape[-1]))
        return torch.nn.functional.linear(torch.nn.functional.gelu(hidden), weight(4, 8))

    x = torch.randn(2, TOKENS, 4)
    graph = traced(body, x)
    (read,) = dependence(graph, Place(1, TOKENS)).values()
    assert read == {Place(1, TOKENS)}
    attention = traced(attend, x)
    assert None in dependence(attention, Place(1, TOKENS)).values()


def test_every_rule_is_held_against_calls() -> None:
    assert set(CALLS) == set(RULES)


@pytest.mark.parametrize("packet", sorted(RULES, key=str), ids=str)
def test_a_rule_holds_however_its_operands_are_the_same(packet: Any) -> None:
    accepted = check_calls(CALLS[packet], examples=15) or check_calls(CALLS[packet], examples=200)
    assert accepted, f"{packet} is in the table, and refused at every place"


def test_pointwise_ops_are_pointwise() -> None:
    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(op=st.sampled_from(pointwise_ops()), data=st.data())
    def check(op: Any, data: st.DataObject) -> None:
        check_call(pointwise(op)(Drawn(data)), data)

    check()


SQUARE = (2, 4, 4)
"""As many tokens as features: no rule may tell them apart by their number, and any value can meet any other."""
F = torch.nn.functional
TOGETHER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "scale": lambda a, b: a * b.sigmoid(),
    "swap": lambda a, b: a.transpose(1, 2),
    "linear": lambda a, b: F.linear(a, weight(4, 4).double()),
    "norm": lambda a, b: F.layer_norm(a, [4]),
    "mix": lambda a, b: F.linear(a.transpose(1, 2), weight(4, 4).double()).transpose(1, 2),
    "modulate by the mean": lambda a, b: a + b.mean(1, keepdim=True),
    "attend": lambda a, b: F.scaled_dot_product_attention(a, b, b),
    "attend with bias": lambda a, b: F.scaled_dot_product_attention(b, a, a, attn_mask=b),
    "product": lambda a, b: a @ b,
    "gram": lambda a, b: torch.einsum("btc,bsc->bts", a, b),
    "linear attention": lambda a, b: torch.einsum("btc,bsc,bsd->btd", a, b, a),
    "product and sum": lambda a, b: torch.baddbmm(a, b, a),
    "first of both": lambda a, b: torch.cat([a, b], 1)[:, :4],
    "second of both": lambda a, b: F.gelu(torch.cat([a, b], 1)).split(4, 1)[1],
    "middle of both": lambda a, b: torch.cat([a, b], 1)[:, 2:6],
    "side by side": lambda a, b: F.linear(torch.cat([a, b], -1), weight(4, 8).double()),
    "heads": lambda a, b: F.scaled_dot_product_attention(
        *(each.unflatten(-1, (2, 2)).transpose(1, 2) for each in (a, b, b))
    ).transpose(1, 2).flatten(2),
    "grid": lambda a, b: (a.unflatten(1, (2, 2)) + b[:, None, :2]).flatten(1, 2),
    "one column": lambda a, b: a * b.select(1, 0)[:, None],
    "one feature": lambda a, b: a * b[..., :1],
    "squeezed": lambda a, b: a * b[:, :1].squeeze(1).unsqueeze(1) - b[..., 1:2].squeeze(-1).unsqueeze(-1),
}  # fmt: skip


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_path_computes_the_tokens_of_the_whole(examples: int) -> None:
    """Bodies that read a stream and another value, each once or often, through any of the latest values."""

    @settings(max_examples=examples, deadline=None)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from(sorted(TOGETHER)), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6
        ),
        streams=st.sets(st.integers(0, 5), max_size=2),
        count=st.integers(1, 3),
    )
    def check(steps: list[tuple[str, int, int]], streams: set[int], count: int) -> None:

        def body(stream: Tensor, other: Tensor) -> list[Tensor]:
            values = [other, stream]
            for name, a, b in steps:
                values.append(TOGETHER[name](values[-1 - a % len(values)], values[-1 - b % len(values)]))
            return values

        gm = make_fx(body, pre_dispatch=True)(torch.rand(SQUARE).double(), torch.rand(SQUARE).double())
        WithValues(gm).run(torch.rand(SQUARE).double(), torch.rand(SQUARE).double())
        values: Any = ir.output_node(gm.graph).args[0]
        stream, feature = values[1], values[-1]
        between = {value for index, value in enumerate(values[2:-1]) if index in streams}
        moving = frozenset(ir.descendants([stream]))
        live = Liveness(frozenset(({stream} | between) & moving), frozenset(), moving, frozenset())
        for place in places(SQUARE):
            path = path_at(feature, place, live)
            if isinstance(path, TokenPath):
                check_path(path, feature, min(count, place.tokens - 1), f"{steps} at {place}: {path}")

    check()


class WithValues(fx.Interpreter):
    """Gives each node the value that it has in this run."""

    def run_node(self, n: fx.Node) -> Any:
        n.meta["val"] = super().run_node(n)
        return n.meta["val"]
