"""What the backend finds in one call of a model, over all its graphs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from duca_compile import torch_private
from duca_compile.backend import plan_for
from duca_compile.capture import Capture, capture
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


def noted(gm: fx.GraphModule, notes: list[Any], note: Any) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        notes.append(note)
        return gm(*args)

    return run


def survey(model: nn.Module, call: dict[str, Any], **options: Any) -> Survey:
    """Runs `model(**call)` uncompiled and asks the backend about every graph on the way, as often as it runs."""
    accelerated: list[tuple[Capture, Plan]] = []
    refusals: list[str] = []

    def ask(gm: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
        try:
            captured = capture(gm, inputs)
            plan = plan_for(captured, Options.parse(options), torch_private.is_whole(gm))
        except Refused as refused:
            return noted(gm, refusals, str(refused))
        return noted(gm, accelerated, (captured, plan))

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(model, backend=ask, dynamic=False)(**call)
    return Survey(tuple(accelerated), tuple(refusals))
