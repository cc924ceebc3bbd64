"""Token rules held against calls: another value of one token, or some tokens alone, and only they may differ."""

import operator
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx

from duca_compile.analysis.facts import TokenPath
from duca_compile.analysis.token_paths import Liveness, path_at
from duca_compile.analysis.token_rules import Place, rule
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.passes.recompute_tokens import TokenwiseBody
from duca_compile.plan.step_plan import CACHE, Slot
from op_calls import Call, Drawn, Make, aliasings, factorings, runs


def check_calls(make: Make, examples: int) -> int:
    """How often the rules found the op token-wise."""
    accepted = 0

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        nonlocal accepted
        accepted += check_call(make(Drawn(data)), data)

    check()
    return accepted


def check_call(call: Call, data: st.DataObject) -> int:
    if not runs(call):
        return 0
    accepted = 0
    for same in aliasings(call.operands):
        results = applied(call, same)
        if not results:
            continue
        result = results[data.draw(st.integers(0, len(results) - 1))]
        found = list(places(ir.shape(result) or ()))
        for place in data.draw(st.lists(st.sampled_from(found), min_size=1, max_size=4, unique=True)) if found else []:
            told = f"{call} with operands {same} at {place}"
            accepted += check_one_token(result, place, told) + check_selected_tokens(result, place, told)
    return accepted


def applied(call: Call, same: tuple[int, ...]) -> list[fx.Node]:
    """The call in a graph that holds real values. Operands are one node where `same` says so."""
    graph, nodes = fx.Graph(), list[fx.Node]()
    generator = torch.Generator().manual_seed(0)
    for position, (operand, first) in enumerate(zip(call.operands, same, strict=True)):
        if first < position:
            nodes.append(nodes[first])
            continue
        nodes.append(graph.placeholder(f"operand_{position}"))
        nodes[-1].meta["val"] = operand.values(generator)
    args, kwargs = call.filled(nodes)
    node = emit(graph, call.target, args, kwargs)
    if isinstance(ir.value(node), Tensor):
        return [node]
    return [emit(graph, operator.getitem, [node, index]) for index in range(len(ir.value(node)))]


def places(shape: tuple[int, ...]) -> Iterator[Place]:
    """Every place where more than one token can lie in a value of this shape."""
    for dim, size in enumerate(shape):
        for outer, tokens, inner in factorings(size):
            yield Place(dim, tokens, outer, inner)
        for start in range(size - 1):
            yield Place(dim, 2, start=start, span=size)
        for stop in range(dim + 2, len(shape) + 1):
            if Place.over(shape, dim, stop).tokens > 1:
                yield Place.over(shape, dim, stop)


def check_one_token(result: fx.Node, place: Place, told: str) -> bool:
    """Another value of one token, in every operand that the rule finds it in, moves only that token of the result."""
    needed = rule(result, place)
    node = result
    if needed is not None and ir.packet(result) is None:
        (node,) = needed
        needed = rule(node, needed[node])
    if needed is None:
        return False
    last = place.tokens - 1
    values = {}
    for operand, at in needed.items():
        size = [*(ir.shape(operand) or ())[: at.dim], *at.sizes, *(ir.shape(operand) or ())[at.dims.stop :]]
        values[operand] = ir.value(operand).expand(size).clone(memory_format=torch.contiguous_format)
        apart = tokens_first(values[operand], at)
        apart[last] = apart[0].clone() if apart.dtype.itemsize == 1 or apart.dtype is torch.int64 else apart[last] * 0.5
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda operand: values.get(operand, ir.value(operand)))
    target: Any = node.target
    moved = target(*args, **kwargs)
    moved = moved[result.args[1]] if node is not result else moved
    same_as(tokens_first(moved, place)[:last], tokens_first(ir.value(result), place)[:last], told)
    return True


def check_selected_tokens(result: fx.Node, place: Place, told: str) -> bool:
    """Tokens of the result, computed as a CONSERVATIVE step does where one operand is a stream, are those of the whole."""
    graph = result.graph
    operands = [node for node in graph.nodes if node.op == "placeholder" and not node.name.startswith("tokens")]
    accepted = False
    for stream in operands:
        live = Liveness(frozenset({stream}), frozenset(), frozenset(ir.descendants([stream])), frozenset())
        path = path_at(result, place, live)
        if isinstance(path, str):
            continue
        accepted = True
        for count in {1, place.tokens - 1}:
            check_path(path, result, count, f"{told}, stream {stream}")
    return accepted


def check_path(path: TokenPath, result: fx.Node, count: int, told: str) -> None:
    """Its tokens, as a CONSERVATIVE step computes them, are those of the whole: what it has cached is as it was."""
    graph, place = result.graph, path.place
    nodes: dict[str, fx.Node] = {node.name: node for node in graph.nodes}
    kept = dict.fromkeys((*dict(path.cached), *path.whole))
    nodes |= {CACHE + name: nodes[name] for name in kept}
    step: Any = SimpleNamespace(branches=(), reads=[Slot(name) for name in kept], kept_in=lambda dtype: dtype)
    tokens = graph.placeholder("tokens")
    tokens.meta["val"] = torch.randperm(place.tokens)[:count]
    made = TokenwiseBody(graph, nodes, step, path, tokens, count).compute(result.name)
    chosen = tokens_first(ir.value(made), replace(place, tokens=count, start=0, span=0))
    same_as(chosen, tokens_first(ir.value(result), place)[ir.value(tokens)], told)


def same_as(got: Tensor, want: Tensor, told: str) -> None:
    rtol = 1e-5 if got.dtype is torch.float32 else 0  # of ops that take no numbers of 64 bits
    torch.testing.assert_close(got, want, rtol=rtol, atol=1e-9, equal_nan=True, msg=lambda text: f"{told}: {text}")


def tokens_first(value: Tensor, place: Place) -> Tensor:
    """`value` with its tokens as the first dimension."""
    if place.span:
        value = value.narrow(place.dim, place.start, place.tokens)
    size = value.shape
    apart = value.reshape(*size[: place.dim], place.outer, place.tokens, place.inner, *size[place.dims.stop :])
    return apart.movedim(place.dim + 1, 0)
