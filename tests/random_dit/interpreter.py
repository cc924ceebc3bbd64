"""What a step of a plan means, carried out by definition: node by node, in eager mode, on all tokens.

The rewrites must give the same numbers by gathering, narrowing and cutting. Nothing here gathers an operand or removes
a node, and nothing comes from the rewrites, so the two can only agree by both being right.
"""

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.analysis.facts import TokenPath
from duca_compile.analysis.token_rules import Place
from duca_compile.methods.base import Action
from duca_compile.methods.duca import Mode
from duca_compile.plan.plan import Plan
from helpers import caches, frontier, refreshed, stored

Values = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What a step returns, and what it leaves for the next one."""

    results: list[Any]
    caches: dict[str, Tensor]
    frontier: dict[str, Tensor]


class PlanInterpreter:
    """`inputs` are the values of the captured graph's own inputs, in order; they may be of a wider dtype than captured."""

    def __init__(self, gm: fx.GraphModule, plan: Plan) -> None:
        self.nodes: list[fx.Node] = list(gm.graph.nodes)
        self.named = {node.name: node for node in self.nodes}
        self.plan = plan
        self.stream_values = {name for stream in plan.facts.streams for name in (stream.root, *stream.sums)}
        self.stream_values |= {branch.feature for branch in plan.branches}
        self.inside = {name for branch in plan.branches for name in branch.body} - self.stream_values

    def full(self, inputs: Sequence[Tensor]) -> Step:
        """Every node as captured."""
        held = self._placed(inputs)
        for node in self.nodes:
            if node.op == "call_function":
                held[node.name] = _run(node, held)
        kept = {name: held[name] for name in caches(self.plan)}
        return Step(self._results(held), kept, {name: held[name] for name in frontier(self.plan)})

    def conservative(
        self, inputs: Sequence[Tensor], before: Mapping[str, Tensor], chosen: Mapping[str, Tensor]
    ) -> Step:
        """`chosen` gives the token indices of each of the plan's selections by its input's name."""
        held, kept = self._placed(inputs), dict(before)
        for node in self.nodes:
            if node.op != "call_function":
                continue
            owners = [index for index, branch in enumerate(self.plan.branches) if branch.feature == node.name]
            for index in owners:
                if index in refreshed(self.plan):
                    kept[node.name] = self._refreshed(index, held, kept, chosen)
            held[node.name] = kept[node.name] if owners else _run(node, held)
        return Step(self._results(held), kept, {name: held[name] for name in frontier(self.plan)})

    def aggressive(self, inputs: Sequence[Tensor], kept: Mapping[str, Tensor]) -> Step:
        """Only what the results need from the frontier on; AssertionError where that lies inside a skipped body."""
        held = {**self._placed(inputs), **kept}
        needed = self._needed(set(held))
        skipped = set(range(len(self.plan.branches))) - set(self.plan.steps[Mode.AGGRESSIVE].where(Action.COMPUTE))
        skipped_work = {name for index in skipped for name in self.plan.branches[index].body}
        assert not needed & skipped_work, f"AGGRESSIVE runs {sorted(needed & skipped_work)}, inside a skipped body"
        for node in self.nodes:
            if node.op == "call_function" and node.name in needed:
                held[node.name] = _run(node, held)
        return Step(self._results(held), {}, dict(kept))

    def _refreshed(self, index: int, held: Values, kept: Mapping[str, Tensor], chosen: Mapping[str, Tensor]) -> Tensor:
        """The cached feature of a branch with its selected tokens as this step computes them."""
        branch = self.plan.branches[index]
        assert branch.path is not None
        everywhere = self._body_on_all_tokens(branch.path, held, kept)[branch.feature]
        tokens = chosen[self.plan.steps[Mode.CONSERVATIVE].selection_of(index).input_of(index)]
        return put_tokens(kept[branch.feature], everywhere, branch.path.place, tokens)

    def _body_on_all_tokens(self, path: TokenPath, held: Values, kept: Mapping[str, Tensor]) -> Values:
        """The path's nodes from values at hand and cached mixing values; AssertionError where it reads any other value
        from inside a body, which a CONSERVATIVE step does not compute."""
        from_cache = {*path.whole, *(name for name, _ in path.cached)}
        inner: Values = {name: kept[name] for name in from_cache}
        at_hand = ChainMap(inner, held)
        readable = from_cache | {name for name, _ in path.live}
        handed = dict(path.same)
        for name, _ in path.compute:
            node = self.named[name]
            if name in handed and node.target is torch.ops.aten.cat.default:
                inner |= self._unread(node, at_hand[handed[name]], readable)
                readable |= {operand.name for operand in node.all_input_nodes}
            unlisted = {operand.name for operand in node.all_input_nodes} & self.inside - readable
            assert not unlisted, f"{name} reads {sorted(unlisted)}, inside a body and not on the path"
            inner[name] = _run(node, at_hand)
            readable.add(name)
        return inner

    def _unread(self, joined: fx.Node, like: Tensor, readable: set[str]) -> Values:
        """What stands beside the tokens in a sequence that only hands them on: not a number, so that none is used."""
        beside = [node for node in joined.all_input_nodes if node.name in self.inside - readable]
        return {node.name: like.new_full(node.meta["val"].shape, math.nan) for node in beside}

    def _needed(self, given: set[str]) -> set[str]:
        """The names of the nodes that the results are computed from, nothing above those given."""
        needed: set[str] = set()
        stack = list(self.nodes[-1].all_input_nodes)
        while stack:
            node = stack.pop()
            if node.name not in given and node.name not in needed:
                needed.add(node.name)
                stack.extend(node.all_input_nodes)
        return needed

    def _placed(self, inputs: Sequence[Tensor]) -> Values:
        own = [node.name for node in self.nodes if node.op == "placeholder"]
        return dict(zip(own, inputs, strict=True))

    def _results(self, held: Values) -> list[Any]:
        returned: Any = self.nodes[-1].args[0]
        return list(_filled(returned, held))


def stored_by(plan: Plan, mode: Mode, step: Step) -> list[Tensor]:
    """The values that a graph of `mode` returns after the results, in its order."""
    return [step.frontier[name] if name in step.frontier else step.caches[name] for name in stored(plan, mode)]


def put_tokens(into: Tensor, source: Tensor, place: Place, tokens: Tensor) -> Tensor:
    """`into` with the given tokens of `source`: both laid out with all tokens along one dimension, and chosen by a mask."""
    before, after = into.shape[: place.dim], into.shape[place.dim + max(1, len(place.grid)) :]
    apart = (*before, place.outer, place.tokens, place.inner, *after)
    taken = torch.zeros(place.tokens, dtype=torch.bool)
    taken[tokens] = True
    mask = taken.reshape(-1, 1, *[1 for _ in after])
    return torch.where(mask, source.reshape(apart), into.reshape(apart)).reshape(into.shape)


def _run(node: fx.Node, held: Mapping[str, Any]) -> Any:
    assert callable(node.target)
    return node.target(*_filled(node.args, held), **_filled(node.kwargs, held))


def _filled(args: Any, held: Mapping[str, Any]) -> Any:
    return fx.map_arg(args, lambda node: held[node.name])
