"""What the backend finds in one call of a model, over all its graphs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from duca_compile.backend import prepare
from duca_compile.capture import Capture
from duca_compile.options import Options
from duca_compile.plan import Plan
from duca_compile.refusal import Refused


@dataclass(frozen=True)
class Survey:
    """`accelerated` graphs, and the reasons why the others are not."""

    accelerated: tuple[tuple[Capture, Plan], ...]
    refusals: tuple[str, ...]

    @property
    def graphs(self) -> int:
        return len(self.accelerated) + len(self.refusals)

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(plan for _, plan in self.accelerated)

    @property
    def branches(self) -> int:
        return sum(len(plan.branches) for plan in self.plans)

    @property
    def recomputed(self) -> int:
        return sum(branch.path is not None for plan in self.plans for branch in plan.branches)

    @property
    def blocks(self) -> int:
        return sum(len(plan.facts.blocks) for plan in self.plans)

    @property
    def streams(self) -> int:
        return sum(len(plan.facts.streams) for plan in self.plans)


def survey(model: nn.Module, call: dict[str, Any], **options: Any) -> Survey:
    """Runs `model(**call)` uncompiled and asks the backend about every graph on the way."""
    accelerated: list[tuple[Capture, Plan]] = []
    refusals: list[str] = []

    def ask(gm: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
        try:
            accelerated.append(prepare(gm, inputs, Options.parse(options)))
        except Refused as refused:
            refusals.append(str(refused))
        return gm.forward

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(model, backend=ask, dynamic=False)(**call)
    return Survey(tuple(accelerated), tuple(refusals))
