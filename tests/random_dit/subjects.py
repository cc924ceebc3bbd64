"""A random model brought to graphs: captured, planned, rewritten, and optionally all in one wide dtype."""

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.analysis.analyse import analyse
from duca_compile.analysis.facts import Facts
from duca_compile.capture.capture import Capture, capture
from duca_compile.generations.own_results import delivered, layout, memory
from duca_compile.methods.duca import Mode
from duca_compile.methods.refresh import SELECTIONS
from duca_compile.passes import rewrite
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan, make_plan
from duca_compile.refusal import Refused
from helpers import caches, stored
from random_dit.interpreter import PlanInterpreter
from random_dit.models import RandomModel, Spec, random_call, random_model

REMEMBERED = 100
"""Captures kept for the next test over the same models."""


@dataclass(frozen=True)
class Taken:
    """A captured model. `state` are the values of the graph's inputs, of which `places` names those of a call."""

    model: RandomModel
    capture: Capture
    facts: Facts
    state: tuple[Tensor, ...]
    places: Mapping[str, int]


@functools.lru_cache(maxsize=REMEMBERED)
def taken(spec: Spec) -> Taken | str:
    """The reason where the backend refuses the model. Remembered, because tracing takes most of a test's time."""
    model, call = random_model(spec), random_call(spec, 0)
    found: list[tuple[Capture, Facts] | str] = []
    values: list[Tensor] = []

    def backend(gm: fx.GraphModule, example: Sequence[Any]) -> Callable[..., Any]:
        def run(*args: Tensor) -> Any:
            values.extend(args)
            return gm.forward(*args)

        try:
            captured = capture(gm, example)
            found.append((captured, analyse(captured)))
        except Refused as reason:
            found.append(str(reason))
        return run

    torch._dynamo.reset()
    torch.compile(model, backend=backend, fullgraph=True, dynamic=False)(**call)
    (only,) = found
    if isinstance(only, str):
        return only
    state = (*only[0].constants, *values)
    places = {name: at for name, value in call.items() for at, held in enumerate(state) if held is value}
    return Taken(model, *only, state, places)


@dataclass(frozen=True)
class Subject:
    """A model, its plan, and its graphs: as captured and of each mode."""

    taken: Taken
    model: RandomModel
    plan: Plan
    gm: fx.GraphModule
    graphs: Mapping[Mode, fx.GraphModule]
    dtype: torch.dtype | None = None

    @property
    def definition(self) -> PlanInterpreter:
        return PlanInterpreter(self.gm, self.plan)

    def widened(self) -> "Subject":
        model = copy.deepcopy(self.model).double()
        model.narrow = torch.float64
        graphs = {mode: widened(graph) for mode, graph in self.graphs.items()}
        return Subject(self.taken, model, self.plan, widened(self.gm), graphs, torch.float64)

    def inputs(self, call: Mapping[str, Tensor]) -> list[Tensor]:
        values = list(self.taken.state)
        for name, at in self.taken.places.items():
            values[at] = call[name].clone()
        return [value.to(self.dtype) if self.dtype and value.is_floating_point() else value for value in values]

    def eager(self, call: Mapping[str, Tensor]) -> list[Tensor]:
        results = self.model(**{name: value.to(self.dtype or value.dtype) for name, value in call.items()})
        return list(results) if isinstance(results, tuple) else [results]

    def run(self, mode: Mode, call: Mapping[str, Tensor], *extra: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """A rewritten graph's results, and what it stores. The caller owns results and inputs and writes to both: what
        is stored, or is yet to be returned, must not change by that."""
        inputs = self.inputs(call)
        found = self.graphs[mode](*inputs, *extra)
        own = len(found) - len(stored(self.plan, mode))
        given = found[:own]
        if mode != Mode.FULL:
            given = delivered(given, layout(given), memory(extra))
        results = [result.clone() for result in given]
        for theirs in (*given, *(inputs[at] for at in self.taken.places.values())):
            theirs.fill_(math.nan)
        return results, list(found[own:])

    def fill(self, call: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Caches and frontier of a FULL step."""
        _, found = self.run(Mode.FULL, call)
        at = len(caches(self.plan))
        return found[:at], found[at:]

    def draw(self, seed: int) -> dict[str, Tensor]:
        """Random tokens for every branch that recomputes some, by input."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randperm(one.tokens, generator=generator)[: one.count]
            for one in self.plan.draws
            for name in one.inputs
        }


def widened(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy that computes in float64 wherever it names a floating dtype."""
    wide = copy.deepcopy(gm)
    for node in wide.graph.nodes:
        if node.op == "call_function":
            node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), _wide)
    wide.recompile()
    return wide


def _wide(arg: Any) -> Any:
    return torch.float64 if isinstance(arg, torch.dtype) and arg.is_floating_point else arg


def subject(spec: Spec, cache_ratio: float, depth: str) -> Subject | None:
    """None where the backend refuses the model; a depth that it refuses gives way to the default."""
    found = taken(spec)
    if isinstance(found, str):
        return None
    order = "conservative" if spec.returns == "feature" else "conservative-first"
    fixed = {"cache_ratio": cache_ratio, "order": order, "selection": SELECTIONS[spec.seed % 2]}
    for aggressive_depth in (depth, "all"):
        options = Options.parse({"method": "duca", "aggressive_depth": aggressive_depth, **fixed})
        try:
            plan = make_plan(found.capture.gm.graph, found.facts, options, whole=True)
        except Refused:
            continue
        graphs = {Mode(name): rewrite(found.capture.gm, plan.steps[name])[0] for name in options.recipes}
        return Subject(found, found.model, plan, found.capture.gm, graphs)
    return None
