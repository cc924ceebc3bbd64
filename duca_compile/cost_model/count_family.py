"""Costs of a model family counted at given sizes: the values that `cost_model` puts polynomials through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from duca_compile import torch_private
from duca_compile.capture.capture import Capture
from duca_compile.cost.step_cost import Cost, cost_of
from duca_compile.methods.duca import DuCa, Mode
from duca_compile.passes import rewrite
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan, make_plan
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import Refused
from duca_compile.study import Study, study

Build = Callable[..., tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]]
Regime = frozenset[int]


@dataclass(frozen=True)
class Sample:
    """One model of the family, planned at R = 0, where every branch that can be recomputed is.

    A *group* is the branches that choose among the same number of tokens: those of text, of image or of both joined. A
    *regime* is which groups have a token to recompute, as `floor((1 - R) * tokens)` may be 0: each has its own graph.
    """

    captured: Capture
    plan: Plan

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of each group."""
        return tuple(selection.tokens for selection in self.plan.draws)

    def cost(self, mode: Mode, cache_ratio: float) -> Cost[int]:
        return self._cost(self._planned(cache_ratio).steps[mode])

    def conservative(self) -> dict[Regime, list[Cost[int]]]:
        """In each regime, a step's cost with one fresh token in each group, then with one more in each by itself."""
        found = {}
        for least in (*self.tokens, None):
            plan = self._planned(1 - 1 / least if least else 1)
            groups = [self.tokens.index(selection.tokens) for selection in plan.draws]
            more = [[1 + (other == group) for other in groups] for group in sorted(groups)]
            found[frozenset(groups)] = [self._with_counts(plan, counts) for counts in ([1] * len(groups), *more)]
        return found

    def _planned(self, cache_ratio: float) -> Plan:
        return make_plan(
            self.captured.gm.graph, self.plan.facts, with_ratio(self.plan.options, cache_ratio), whole=True
        )

    def _with_counts(self, plan: Plan, counts: list[int]) -> Cost[int]:
        drawn = [replace(selection, count=count) for selection, count in zip(plan.draws, counts, strict=True)]
        return self._cost(replace(plan.steps[Mode.CONSERVATIVE], draws=tuple(drawn)))

    def _cost(self, step: StepPlan) -> Cost[int]:
        return cost_of(self.captured, step, rewrite(self.captured.gm, step)[0])


def with_ratio(options: Options, cache_ratio: float) -> Options:
    """Of DuCa."""
    assert isinstance(options.method, DuCa)
    return replace(options, method=replace(options.method, cache_ratio=cache_ratio))


class _Seen(Exception):
    """Ends a compilation, so that Dynamo keeps nothing of it and the model is never run."""


def sample(build: Build, sizes: Mapping[str, int], options: Options) -> Sample:
    """Raises `Refused` where the model of these sizes is not accelerated, or not captured in one graph."""
    model, args, kwargs = build(**sizes)
    found: list[Study] = []

    def collect(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        found.append(study(gm, inputs, with_ratio(options, 0)))
        raise _Seen

    with torch.no_grad(), torch_private.backend_may_raise(_Seen):
        torch.compile(model, backend=collect, dynamic=False)(*args, **kwargs)
    if not found:
        raise Refused("the forward pass has no graph")
    if not found[0].whole:
        raise Refused("Dynamo splits the forward pass into several graphs; a cost model is of one")
    return Sample(*found[0].planned())
