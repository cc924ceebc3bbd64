"""Costs of a model family counted at given sizes: the values that `cost_model` puts polynomials through."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from torch import fx, nn

from duca_compile.backend import plan_for, refuse_training
from duca_compile.capture import Capture, capture
from duca_compile.cost import Cost, cost_of
from duca_compile.explain import look_into
from duca_compile.modes import Mode
from duca_compile.options import Options
from duca_compile.plan import Plan, fresh_tokens, make_plan
from duca_compile.polynomials import Point, independent
from duca_compile.refusal import Refused

Build = Callable[..., tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]]
Group = int
Regime = frozenset[Group]


@dataclass(frozen=True)
class Sample:
    """One model of the family, planned at R = 0, where every branch that can be recomputed is.

    A *group* is the branches that choose among the same number of tokens, such as those of text, of image or of both
    joined. A *regime* is which groups have a token to recompute, as `floor((1 - R) * tokens)` may be 0: in each, a
    CONSERVATIVE step has its own graph.
    """

    captured: Capture
    plan: Plan

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of each group."""
        return tuple(selection.tokens for selection in self.plan.selections)

    def cost(self, mode: Mode, cache_ratio: float) -> Cost[int]:
        options = replace(self.plan.options, cache_ratio=cache_ratio)
        return cost_of(self.captured, make_plan(self.captured.gm.graph, self.plan.facts, options), mode)

    def regimes(self) -> Iterator[tuple[Regime, list[tuple[float, Point]]]]:
        """Every regime with values of R that tell its groups apart, and the fresh tokens that each R leaves them."""
        ratios = sorted({1 - Fraction(fresh, tokens) for tokens in self.tokens for fresh in range(tokens + 1)} | {Fraction(1)})
        found: dict[Regime, list[tuple[float, Point]]] = {}
        for ratio in map(float, reversed(ratios)):
            counts = [fresh_tokens(tokens, ratio) for tokens in self.tokens]
            regime = frozenset(group for group, count in enumerate(counts) if count)
            found.setdefault(regime, []).append((ratio, tuple(counts[group] for group in sorted(regime))))
        for regime, members in found.items():
            chosen = independent([counts for _, counts in members])
            if chosen is not None:
                yield regime, [members[index] for index in chosen]


def sample(build: Build, sizes: Mapping[str, int], options: Options) -> Sample:
    """Raises `Refused` where the model of these sizes is not accelerated, or not captured in one graph."""
    model, args, kwargs = build(**sizes)
    found: list[Sample] = []

    def plan(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        refuse_training(inputs)
        captured = capture(gm, inputs)
        found.append(Sample(captured, plan_for(captured, replace(options, cache_ratio=0), whole=True)))
        return gm.forward

    look_into(model, args, kwargs, plan)
    if len(found) != 1:
        raise Refused(f"Dynamo splits the forward pass into {len(found)} graphs; a cost model is of one")
    return found[0]
