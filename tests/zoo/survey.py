"""What the backend finds in one call of a model, over all its graphs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

import duca_compile
from duca_compile.capture.capture import Capture
from duca_compile.cost.flops import Executed
from duca_compile.methods.duca import Mode
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan
from duca_compile.refusal import Refused
from duca_compile.study import study
from helpers import lenient, of_duca
from zoo.case import Call, calls

TIMES = (900.0, 880.0, 860.0, 840.0)


@dataclass(frozen=True)
class Survey:
    """`accelerated` graphs with the inputs they ran on, and the reasons why the others are not."""

    accelerated: tuple[tuple[Capture, Plan, tuple[Any, ...]], ...]
    refused: tuple[tuple[Capture | None, str], ...]

    @property
    def graphs(self) -> int:
        return len(self.accelerated) + len(self.refused)

    @property
    def refusals(self) -> tuple[str, ...]:
        return tuple(reason for _, reason in self.refused)

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(plan for _, plan, _ in self.accelerated)

    @property
    def branches(self) -> int:
        return sum(len(plan.branches) for plan in self.plans)

    @property
    def recomputed(self) -> int:
        return sum(branch.path is not None for plan in self.plans for branch in plan.branches)

    @property
    def blocks(self) -> int:
        return sum(len(plan.facts.blocks) for plan in self.plans)


def noted(gm: fx.GraphModule, note: Callable[[tuple[Any, ...]], None]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        note(args)
        return gm(*args)

    return run


def survey(model: nn.Module, call: dict[str, Any], **options: Any) -> Survey:
    """Runs `model(**call)` uncompiled and asks the backend about every graph on the way, as often as it runs."""
    accelerated: list[tuple[Capture, Plan, tuple[Any, ...]]] = []
    refused: list[tuple[Capture | None, str]] = []

    def ask(gm: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
        found = study(gm, inputs, Options.parse(of_duca(options)))
        if isinstance(found.error, Refused):
            told = str(found.error)
            return noted(gm, lambda args: refused.append((found.captured, told)))
        captured, plan = found.planned()
        return noted(gm, lambda args: accelerated.append((captured, plan, args)))

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(model, backend=ask, dynamic=False)(**call)
    return Survey(tuple(accelerated), tuple(refused))


def executed(model: nn.Module, call: Call, **options: Any) -> dict[Mode, int]:
    """FLOPs of a step in each recipe that ran: of all that PyTorch executes in it, in and outside of the graphs."""
    fast, found = lenient(model, cycle=3, **options), dict[Mode, int]()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for given in calls(call, TIMES):
            before = duca_compile.stats(model).steps
            with Executed() as counter:
                fast(**given)
            after = duca_compile.stats(model).steps
            found |= {mode: counter.flops for mode in Mode if after[mode] > before[mode]}
    return found
