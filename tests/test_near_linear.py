"""A graph twice as large takes about twice as long: no search starts anew at every node."""

import gc
import time
from collections.abc import Callable

import pytest
import torch
from torch import fx

from duca_compile.analysis.analyse import analyse
from duca_compile.capture.capture import Capture
from duca_compile.cost.peak_memory import peak_bytes
from duca_compile.methods.duca import DuCa, Mode
from duca_compile.passes import lower, rewrite
from duca_compile.plan.options import Options
from duca_compile.plan.plan import make_plan
from graphs import SIZE, Drawing, block, framed

aten = torch.ops.aten
HALF = (2, 4, 4)


def chain(ops: int) -> Capture:
    """Pointwise ops one after the other."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        for _ in range(ops):
            x = to.call(aten.tanh.default, x)
        return x

    return framed(inside)


def squaring(ops: int) -> Capture:
    """`x = x * x`: twice as many ways up with every op."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        for _ in range(ops):
            x = to.mul(x, x)
        return x

    return framed(inside)


def squared_pieces(ops: int) -> Capture:
    """A `cat` of the halves of the stream, each squared again and again."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        halves = [to.call(aten.slice.Tensor, x, 1, start, start + 4, size=HALF) for start in (0, 4)]
        for _ in range(ops // 2):
            halves = [to.mul(half, half, size=HALF) for half in halves]
        return to.call(aten.cat.default, halves, 1)

    return framed(inside)


def doubled_gates(ops: int) -> Capture:
    """A body that is added to itself again and again, each time gated otherwise: as many ways up as with squaring."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        body = to.linear(x)
        for _ in range(ops // 2):
            body = to.add(body, to.mul(gate, body))
        return to.add(x, body)

    return framed(inside)


def long_skips(ops: int) -> Capture:
    """Every addition leads back to the first value: branches that read each other, over more and more of them."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        first = x
        for _ in range(ops // 5):
            x = to.add(x, to.linear(x))
            x = to.add(first, to.mul(gate, to.linear(x)))
        return x

    return framed(inside)


def side_by_side(ops: int) -> Capture:
    """As many streams as branches, all from one value: none goes on."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        roots = [to.linear(x) for _ in range(ops // 4)]
        ends = [to.add(root, to.mul(gate, to.linear(root))) for root in roots]
        return to.call(aten.sum.dim_IntList, to.call(aten.stack.default, ends, size=(len(ends), *SIZE)), [0])

    return framed(inside)


def parallel(ops: int) -> Capture:
    """`x + f(x) + g(x) + ...`, gated."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        total = x
        for _ in range(ops // 3):
            total = to.add(total, to.mul(gate, to.linear(x)))
        return total

    return framed(inside)


def nested(ops: int) -> Capture:
    """Every branch lies within the body of the one before."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        skips = [x]
        for _ in range(ops // 3):
            skips.append(to.linear(skips[-1]))
        x = skips.pop()
        while skips:
            x = to.add(skips.pop(), to.linear(x))
        return x

    return framed(inside)


def blocks(ops: int) -> Capture:
    """A model of hundreds of blocks."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        for _ in range(ops // 9):
            x = block(to, x, gate)
        return x

    return framed(inside)


def masks(ops: int) -> Capture:
    """A stream under one mask after the other, then cast and clamped."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        for _ in range(ops // 10):
            x = to.mul(to.call(aten.clamp.default, to.mul(x, gate), -1, 1), gate)
            x = to.add(x, to.linear(x))
        for _ in range(ops // 2):
            x = to.mul(x, gate)
        return x

    return framed(inside)


def fan_out(ops: int) -> Capture:
    """One value that thousands of ops read, added up."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        body, total = to.linear(x), to.linear(x)
        for _ in range(ops // 2):
            total = to.add(total, to.call(aten.tanh.default, body))
        return to.add(x, total)

    return framed(inside)


def views(ops: int) -> Capture:
    """A view of a view, all of them read."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        total = view = x
        for _ in range(ops // 3):
            view = to.call(aten.transpose.int, to.call(aten.transpose.int, view, 1, 2, size=(2, 4, 8)), 1, 2)
            total = to.add(total, view)
        return total

    return framed(inside)


def study(captured: Capture) -> None:
    """All that the backend asks of a graph before it compiles."""
    plan = make_plan(captured.gm.graph, analyse(captured), Options(DuCa()))
    peak_bytes(captured.gm.graph)
    for mode in Mode:
        lower(rewrite(captured.gm, plan.steps[mode])[0], plan.steps[mode])


def deep_body(ops: int) -> Capture:
    """A body of thousands of ops, one after the other."""

    def inside(to: Drawing, x: fx.Node, gate: fx.Node) -> fx.Node:
        body = to.linear(x)
        for _ in range(ops):
            body = to.call(aten.tanh.default, body)
        return to.add(x, to.mul(gate, to.linear(body)))

    return framed(inside)


KINDS = (
    chain, squaring, squared_pieces, doubled_gates, long_skips, side_by_side, parallel, nested, blocks, masks, fan_out,
    views, deep_body,
)  # fmt: skip


def cpu_seconds(kind: Callable[[int], Capture], ops: int, work: Callable[[Capture], object]) -> float:
    """Of the processor, whatever else runs on the machine."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        work(kind(ops))
        return time.process_time() - started
    finally:
        gc.enable()


def check(kind: Callable[[int], Capture], ops: int, work: Callable[[Capture], object]) -> None:
    """Four times the ops take four times as long, and 16 times if any search starts anew at every node."""
    small, large = (cpu_seconds(kind, count, work) for count in (ops, 4 * ops))
    assert large < 8 * max(small, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_analyses(kind: Callable[[int], Capture]) -> None:
    check(kind, 1_250, analyse)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_comes_before_the_inner_compiler(kind: Callable[[int], Capture]) -> None:
    check(kind, 2_500, study)


def test_every_addition_of_a_model_of_many_blocks_is_found() -> None:
    """Beside the two blocks around."""
    found = analyse(blocks(900))
    assert len(found.branches) == 2 * (100 + 2)
    assert len(found.streams) == 1
    assert len(found.blocks) == 102
