"""One graph of Dynamo's captured, analysed and planned, or why it is left as it is: the same for all who ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.analysis.analyse import analyse
from duca_compile.analysis.facts import Facts
from duca_compile.capture.capture import Capture, capture
from duca_compile.generations import sessions
from duca_compile.plan.collectives import refuse_collectives, refuse_parts
from duca_compile.plan.devices import refuse_devices
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan, make_plan
from duca_compile.plan.tuned_file import portrait
from duca_compile.refusal import Refused
from duca_compile.runtime.blocks_alone import refuse_block, refuse_submodule
from duca_compile.runtime.steps import NO_CLOCK


@dataclass(frozen=True)
class Study:
    """What is known of one graph, which is the `whole` forward pass or a part of one that Dynamo split.

    `error` says why a call, where the caller stands, is not accelerated: a `Refused`, or a fault of ours. A `plan`
    beside it is good for calls in a session that counts them: nothing else tells their steps apart.
    """

    whole: bool = True
    captured: Capture | None = None
    plan: Plan | None = None
    error: Exception | None = None

    def planned(self) -> tuple[Capture, Plan]:
        """Raises `error` where there is one."""
        if self.error is not None:
            raise self.error
        assert self.captured is not None
        assert self.plan is not None
        return self.captured, self.plan


def study(gm: fx.GraphModule, inputs: Sequence[Any], options: Options) -> Study:
    """Of a graph that Dynamo is compiling just now, for a call with the example `inputs`."""
    whole, captured, plan = True, None, None
    try:
        if not torch_private.is_from_dynamo(gm):
            raise Refused(FOREIGN)
        whole = torch_private.is_whole(gm)
        _refuse_training(inputs)
        refuse_parts(gm, whole)
        captured = capture(gm, inputs)
        refuse_parts(captured.gm, whole)
        facts = analyse(captured, whole)
        _refuse_another_model(facts, options)
        if whole:
            refuse_block(captured.gm.graph, facts)
        planned = make_plan(captured.gm.graph, facts, options, whole)
        refuse_devices(captured.gm.graph, planned)
        refuse_collectives(captured.gm, planned)
        if whole and not planned.facts.inputs.timesteps:
            refuse_submodule()
        plan = planned
        if whole and not (plan.facts.inputs.timesteps or sessions.counts()):
            raise Refused(NO_CLOCK)
    except torch_private.RestartAnalysis:
        raise
    except Exception as failed:
        error = Refused(EMPTY) if is_empty(inputs) and not isinstance(failed, Refused) else failed
        return Study(whole, captured, plan, error)
    return Study(whole, captured, plan)


FOREIGN = (
    "it is no graph that Dynamo hands over while it compiles: call duca_compile.duca within a backend of "
    "torch.compile, with the graph that it was given, changed in place; duca_compile.rewrite takes graphs by themselves"
)
EMPTY = "the call is empty, as with a batch of 0: there is nothing to compute, and sizes cannot be told from it"


def is_empty(inputs: Sequence[Any]) -> bool:
    """Whether a tensor among them has no rows; none where that is symbolic."""
    return any(
        isinstance(given, Tensor) and given.dim() > 0 and isinstance(given.shape[0], int) and not given.shape[0]
        for given in inputs
    )


def _refuse_training(inputs: Sequence[Any]) -> None:
    if torch.is_grad_enabled() and any(isinstance(given, Tensor) and given.requires_grad for given in inputs):
        raise Refused("gradients are enabled; run the model under torch.no_grad() or torch.inference_mode()")


def _refuse_another_model(facts: Facts, options: Options) -> None:
    looks = portrait(facts)
    if options.made_for and looks not in options.made_for.split("; and "):
        raise Refused(
            f"tuned: the file was made for {options.made_for}; this model has {looks}. Call duca_compile.tune"
        )
