"""Which tokens a branch recomputes, where scores decide: those of the highest ones."""

import math
import operator
from dataclasses import dataclass

import torch
from torch import fx

from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.methods.selectors import selector
from duca_compile.methods.selectors.base import Seen
from duca_compile.passes.base import PassResult
from duca_compile.passes.forecast_features import combined
from duca_compile.plan.choice import Choice, unit_length
from duca_compile.plan.step_plan import CACHE, StepPlan
from duca_compile.refusal import Refused, located

aten = torch.ops.aten


@dataclass(frozen=True)
class ChooseTokens:
    """The indices get the name that an input for drawn ones would have. How long tokens have waited is kept in place.

    after:   %add_9 = add(%cache_attention_of_branch_1, ...)
             %topk = topk(%add_9, 1, -1, True, False)
             %getitem = getitem(%topk, 1)
             %sort = sort(%getitem)
             %selected_for_branch_1: i64[1] = getitem(%sort, 0)
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        waited: dict[str, dict[int, fx.Node]] = {}
        for at, chosen in step.choices.items():
            nodes = ir.named(gm.graph)
            feature = nodes[step.branches[at].feature]
            with located(feature), gm.graph.inserting_before(feature):
                scores = _score(gm.graph, nodes, step, at, chosen)
                scores, waits = _with_staleness(gm.graph, nodes, step, chosen, scores)
                if step.recipe.refresh.spatial:
                    scores = _with_spatial(gm.graph, step, scores)
                tokens = _highest(gm.graph, scores, step, at)
                if waits is not None:
                    reset = emit(gm.graph, aten.index_fill.int_Scalar, [waits, 0, tokens, 0.0])
                    waited.setdefault(chosen.waiting, {})[chosen.row] = reset
        for name, rows in waited.items():
            _keep(gm.graph, ir.named(gm.graph)[CACHE + name], rows)
        return PassResult(len(step.choices))


def _score(graph: fx.Graph, nodes: dict[str, fx.Node], step: StepPlan, at: int, chosen: Choice) -> fx.Node:
    """`[tokens]`: the mean over samples."""
    found = selector(step.recipe.refresh.selector)
    assert found is not None
    measured, sign = found
    if chosen.score:
        scores = nodes[CACHE + chosen.score]
    else:
        branch = step.branches[at]
        stream, feature = nodes[branch.skip], nodes[branch.feature]
        if feature < stream:
            raise Refused(
                f"method: branch {branch.sum} is computed before the stream that it adds to, by which it is scored"
            )
        slot = next(slot for slot in step.reads if slot.value == branch.feature)
        seen = Seen(graph, step.facts, at, stream, combined(graph, nodes, slot, step))
        scores = emit(graph, aten.mean.dim, [unit_length(graph, measured.score(seen)), [0]])
    return scores if sign > 0 else emit(graph, aten.neg.default, [scores])


def _with_staleness(
    graph: fx.Graph, nodes: dict[str, fx.Node], step: StepPlan, chosen: Choice, scores: fx.Node
) -> tuple[fx.Node, fx.Node | None]:
    """The scores, and how many steps each token has waited, this one among them."""
    refresh = step.recipe.refresh
    if not chosen.waiting:
        return scores, None
    before = emit(graph, aten.select.int, [nodes[CACHE + chosen.waiting], 0, chosen.row])
    bonus = emit(graph, aten.mul.Scalar, [before, refresh.staleness / refresh.cycle])
    return emit(graph, aten.add.Tensor, [scores, bonus]), emit(graph, aten.add.Scalar, [before, 1.0])


def _with_spatial(graph: fx.Graph, step: StepPlan, scores: fx.Node) -> fx.Node:
    """The highest of each square of tokens gains a share of itself."""
    refresh, (tokens,) = step.recipe.refresh, ir.shape(scores) or (0,)
    side = math.isqrt(tokens) if isinstance(tokens, int) else 0
    if side * side != tokens or side % refresh.cell:
        cell = f"{refresh.cell} x {refresh.cell}"
        raise Refused(f"method: `spatial` needs a square of tokens in cells of {cell}, and there are {tokens}")
    across = side // refresh.cell
    grid = emit(graph, aten.reshape.default, [scores, [across, refresh.cell, across, refresh.cell]])
    best = emit(graph, aten.amax.default, [grid, [1, 3], True])
    gained = emit(graph, aten.mul.Scalar, [grid, 1 + refresh.spatial])
    found = emit(graph, aten.where.self, [emit(graph, aten.eq.Tensor, [grid, best]), gained, grid])
    return emit(graph, aten.reshape.default, [found, [tokens]])


def _highest(graph: fx.Graph, scores: fx.Node, step: StepPlan, at: int) -> fx.Node:
    """Their positions, rising."""
    chosen = step.selection_of(at)
    best = emit(graph, aten.topk.default, [scores, chosen.count, -1, True, False])
    in_order = emit(graph, aten.sort.default, [emit(graph, operator.getitem, [best, 1])])
    return emit(graph, operator.getitem, [in_order, 0], name=chosen.input_of(at))


def _keep(graph: fx.Graph, cache: fx.Node, rows: dict[int, fx.Node]) -> None:
    """Rows of branches that this step does not touch stay as they are."""
    with graph.inserting_before(ir.output_node(graph)):
        count = (ir.shape(cache) or (0,))[0]
        assert isinstance(count, int)
        every = [rows.get(row) or emit(graph, aten.select.int, [cache, 0, row]) for row in range(count)]
        emit(graph, aten.copy_.default, [cache, emit(graph, aten.stack.default, [every])])
