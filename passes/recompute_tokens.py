"""A branch with a token-wise path computes its selected tokens and takes the rest from the cache."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx

from duca_compile.analysis.facts import TokenPath
from duca_compile.analysis.token_rules import Place, needs_size
from duca_compile.graph import ir
from duca_compile.graph.emit import emit
from duca_compile.methods.base import Action
from duca_compile.passes.base import FRESH, PassResult
from duca_compile.passes.forecast_features import combined
from duca_compile.passes.small_caches import shrunk, widened
from duca_compile.plan.step_plan import CACHE, Slot, StepPlan
from duca_compile.refusal import Refusal, located
from duca_compile.torch_private import OpOverload

aten = torch.ops.aten


@dataclass(frozen=True)
class RecomputeTokens:
    """Gather, run the token-wise body, write back into the cache in place, use the cache for all tokens.

    before:  %norm = layer_norm(%x, ...)
             %linear = linear(%norm, ...)
             %mul = mul(%gate, %linear)
    after:   %x_1 = index_select(%x, 1, %selected_for_branch_1)
             %norm_1 = layer_norm(%x_1, ...)
             %linear_1 = linear(%norm_1, ...)
             %fresh_linear = index_copy_(%cache_linear, 1, %selected_for_branch_1, %linear_1)
             %mul = mul(%gate, %fresh_linear)

    With a history, the rest is forecast (`forecast_features.py`), and the cache stays as it is.
    """

    def run(self, gm: fx.GraphModule, step: StepPlan) -> PassResult:
        refreshed, refusals = step.where(Action.REFRESH), []
        for index, branch in enumerate(step.branches):
            if index not in refreshed:
                if step.recipe.decide(index, branch, step.facts) is Action.REFRESH:
                    refusals.append(Refusal(branch.sum, branch.refusal or "no token is recomputed at this cache ratio"))
                continue
            assert branch.path is not None
            chosen = step.selection_of(index)
            nodes = ir.named(gm.graph)
            feature = nodes[branch.feature]
            with located(feature), gm.graph.inserting_before(feature.next):
                tokens = nodes[chosen.input_of(index)]
                body = TokenwiseBody(gm.graph, nodes, step, branch.path, tokens, chosen.count)
                fresh = _filled_up(body, branch.feature, FRESH + branch.feature)
            feature.replace_all_uses_with(fresh)
        return PassResult(len(refreshed), tuple(refusals))


def _filled_up(body: "TokenwiseBody", feature: str, name: str) -> fx.Node:
    """The feature of all tokens: the fresh rows, and the rest from the cache, which takes them in where it is one."""
    graph, rows, place = body.graph, body.compute(feature), body.path.place
    if body.slots[feature].history > 1:
        rest = body.cached(feature)
        return _with_rows(graph, aten.index_copy.default, rest, place, body.tokens, rows, name)
    kept, cache = shrunk(graph, rows, body.step), body.nodes[CACHE + feature]
    first = name if kept is rows else ""
    fresh = _with_rows(graph, aten.index_copy_.default, cache, place, body.tokens, kept, first)
    return widened(graph, fresh, ir.value(body.nodes[feature]).dtype, body.step, name)


def _with_rows(
    graph: fx.Graph, write: OpOverload, given: fx.Node, place: Place, tokens: fx.Node, rows: fx.Node, name: str
) -> fx.Node:
    """`given` with these rows. One of a grid is written through a view with all tokens along one dimension."""
    if not place.grid:
        return emit(graph, write, [given, place.dim, tokens, rows], name=name)
    size, chosen = list(ir.shape(given) or ()), list(ir.shape(rows) or ())
    after = size[place.dims.stop :]
    flat = emit(graph, aten.view.default, [given, [*size[: place.dim], place.tokens, *after]])
    flat_rows = emit(graph, aten.reshape.default, [rows, [*chosen[: place.dim + 1], *after]])
    written = emit(graph, write, [flat, place.dim, tokens, flat_rows])
    return emit(graph, aten.view.default, [written, size], name=name)


@dataclass
class TokenwiseBody:
    """Builds the token-wise body over the selected tokens."""

    graph: fx.Graph
    nodes: dict[str, fx.Node]
    step: StepPlan
    path: TokenPath
    tokens: fx.Node
    count: int

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """What the step takes of features and of values on their paths."""
        return {slot.value: slot for slot in self.step.reads if slot.small}

    @cached_property
    def replaced(self) -> dict[str, str]:
        """The names of features as captured, by those of what stands for them where another branch was rewritten."""
        return {FRESH + branch.feature: branch.feature for branch in self.step.branches}

    def compute(self, feature: str) -> fx.Node:
        made: dict[str, fx.Node] = {}
        for name, place in self.path.live:
            made[name] = self._gather(self._at_hand(name), place)
        for name, place in self.path.cached:
            made[name] = self._gather(self.cached(name), place)
        handed, sliced = dict(self.path.same), dict(self.path.sliced)
        for name, place in self.path.compute:
            if name in handed:
                made[name] = made[handed[name]]
            else:
                made[name] = self._copy(self.nodes[name], place, made, sliced[name])
        return made[feature]

    def _at_hand(self, name: str) -> fx.Node:
        """A stream value of this step; the feature of another branch as this step updates or reuses it."""
        if FRESH + name in self.nodes:
            return self.nodes[FRESH + name]
        return self.cached(name) if name in self.slots else self.nodes[name]

    def cached(self, name: str) -> fx.Node:
        return combined(self.graph, self.nodes, self.slots[name], self.step)

    def _gather(self, node: fx.Node, place: Place) -> fx.Node:
        if place.span:
            node = emit(self.graph, aten.slice.Tensor, [node, place.dim, place.start, place.start + place.tokens])
        size = list(ir.shape(node) or ())
        if not place.grid and place.outer == place.inner == 1:
            return emit(self.graph, aten.index_select.default, [node, place.dim, self.tokens])
        if not place.fits(tuple(size)):
            size = [*size[: place.dim], *place.sizes, *size[place.dims.stop :]]
            node = emit(self.graph, aten.expand.default, [node, size])
        apart = [*size[: place.dim], place.outer, place.tokens, place.inner, *size[place.dims.stop :]]
        split = emit(self.graph, aten.reshape.default, [node, apart])
        chosen = emit(self.graph, aten.index_select.default, [split, place.dim + 1, self.tokens])
        return emit(self.graph, aten.reshape.default, [chosen, place.resized(tuple(size), self.count)])

    def _copy(self, node: fx.Node, place: Place, made: dict[str, fx.Node], sliced: tuple[str, ...]) -> fx.Node:
        def selected(operand: fx.Node) -> fx.Node:
            captured = self.replaced.get(operand.name, operand.name)
            if captured in sliced:
                return made[captured]
            return self.cached(captured) if captured in self.path.whole else operand

        args: tuple[Any, ...] = fx.map_arg(node.args, selected)
        target: Any = node.target
        if needs_size(node):
            args = (args[0], place.resized(ir.shape(node) or (), self.count))
            target = target if target is aten.expand.default else aten.reshape.default
        if ir.packet(node) is aten.view_as_complex and not ir.value(args[0]).is_contiguous():
            args = (emit(self.graph, aten.clone.default, args, {"memory_format": torch.contiguous_format}),)
        copy = emit(self.graph, target, args, fx.map_arg(node.kwargs, selected))
        for key in ("stack_trace", "nn_module_stack"):
            if key in node.meta:
                copy.meta[key] = node.meta[key]
        return copy
