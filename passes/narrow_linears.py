"""Drops the rows of a linear layer that nothing reads any more."""

from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.graph.op_sets import SPLITS
from duca_compile.passes.base import PassResult
from duca_compile.plan.step_plan import StepPlan

aten = torch.ops.aten


@dataclass(frozen=True)
class NarrowLinears:
    """A reused branch leaves the shift and scale rows of its modulation unread, a fused projection its query rows.

    Each run of rows that is read becomes a linear layer over a slice of the weight.

    before:  %linear: f32[2, 12] = linear(%c, %weight, %bias)
             %split = split(%linear, 2, -1)
             %gate = getitem(%split, 2)
             ... nothing reads the other five
    after:   %rows = slice(%weight, 0, 4, 6)
             %part = slice(%bias, 0, 4, 6)
             %narrow: f32[2, 2] = linear(%c, %rows, %part)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        count = 0
        if step.is_complete:
            return PassResult(0)
        for node in list(gm.graph.nodes):
            if ir.packet(node) is not aten.linear or node.kwargs:
                continue
            reader = _reader(node)
            pieces = _pieces(reader)
            runs = _runs([span for _, span in pieces]) if pieces else []
            if not runs or sum(stop - start for start, stop in runs) == (ir.shape(node) or ())[-1]:
                continue
            _narrow(node, reader, pieces, runs)
            count += 1
        return PassResult(count)


Span = tuple[int, int]


def _reader(linear: fx.Node) -> fx.Node:
    """The result, or what a lone `unsqueeze` makes of it before it is split."""
    user = next(iter(linear.users), linear)
    rank = len(ir.shape(user) or ())
    lone = len(linear.users) == 1 and ir.packet(user) is aten.unsqueeze and user.args[1] % rank != rank - 1  # type: ignore
    return user if lone else linear


def _pieces(result: fx.Node) -> list[tuple[fx.Node, Span]]:
    """The values read out of the result, each with its rows; empty if anything reads it otherwise."""
    pieces: list[tuple[fx.Node, Span]] = []
    for user in result.users:
        if ir.packet(user) not in SPLITS or not _along_rows(user, result):
            return []
        edges = [0]
        for part in ir.value(user):
            edges.append(edges[-1] + ir.sizes(part)[-1])
        pieces += [(item, (edges[item.args[1]], edges[item.args[1] + 1])) for item in user.users]  # type: ignore
    return pieces


def _along_rows(split: fx.Node, result: fx.Node) -> bool:
    rank = len(ir.shape(result) or ())
    return bool(ir.argument(split, 2, "dim", 0) % rank == rank - 1)


def _runs(spans: list[Span]) -> list[Span]:
    """The spans joined where they touch."""
    runs: list[Span] = []
    for start, stop in sorted(set(spans)):
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _narrow(linear: fx.Node, reader: fx.Node, pieces: list[tuple[fx.Node, Span]], runs: list[Span]) -> None:
    graph = linear.graph
    source, *weights = (operand for operand in linear.args if isinstance(operand, fx.Node))
    with graph.inserting_before(linear.next):
        left = sorted(pieces, key=lambda piece: piece[1], reverse=True)
        for start, stop in runs:
            rows = [emit(graph, aten.slice.Tensor, [weight, 0, start, stop]) for weight in weights]
            narrow = emit(graph, aten.linear.default, [source, *rows])
            if reader is not linear:
                narrow = emit(graph, aten.unsqueeze.default, [narrow, reader.args[1]])
            while left and left[-1][1][0] < stop:
                piece, (first, last) = left.pop()
                whole = (first, last) == (start, stop)
                cut = [narrow, -1, first - start, last - start]
                piece.replace_all_uses_with(narrow if whole else emit(graph, aten.slice.Tensor, cut))
