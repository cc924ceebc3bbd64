"""`torch.compile(model, backend="duca")`: the whole way of the data, top to bottom."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import ir, sessions, torch_private
from duca_compile.analysis import analyse
from duca_compile.blocks_alone import refuse_submodule
from duca_compile.capture import Capture, capture
from duca_compile.compiled import CompiledMode, CompiledPlain
from duca_compile.dispatch import Dispatcher
from duca_compile.modes import Mode
from duca_compile.options import Options
from duca_compile.parts import Part, PlainPart
from duca_compile.passes import lower, rewrite
from duca_compile.plan import Plan, make_plan
from duca_compile.refusal import Random, Refused, note_once, reason, shown_not_raised, warn_fallback, warnings_after
from duca_compile.split import SharedSteps
from duca_compile.steps import NO_CLOCK, OwnSteps, Steps, budget_of

log = logging.getLogger("duca_compile")
Compiled = Callable[..., Any]


def duca(
    gm: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """The backend Dynamo calls. `mode` is Inductor's; `options` are the fields of `duca_compile.Options`.

    `torch.compile` takes one of the two; what else Inductor should know is among the options.

    Raises `OptionError` for options that make no sense. A model that cannot be accelerated goes to the inner compiler,
    with one `DucaWarning` that says why (`strict=True` raises it instead).
    """
    chosen = Options.parse(options).in_mode(mode)
    if chosen.modes == {Mode.FULL}:
        inner = torch_private.inner_compiler(chosen.inner, chosen.inductor_config)
        return inner(gm, list(example_inputs))  # type: ignore[no-any-return]
    with warnings_after():
        return accelerated(gm, example_inputs, chosen)


def accelerated(gm: fx.GraphModule, example_inputs: Sequence[Any], chosen: Options) -> Compiled:
    """The graph under options that cache steps, or as the inner compiler alone makes it."""
    inner = torch_private.inner_compiler(chosen.inner, chosen.inductor_config)
    ours = without_cuda_graphs(chosen, inner, example_inputs)
    whole, captured, plain = True, None, CompiledPlain(gm, ours)
    try:
        with shown_not_raised():
            whole = torch_private.is_whole(gm)
            refuse_training(example_inputs)
            captured = capture(gm, example_inputs)
            plan = make_plan(captured.gm.graph, analyse(captured, whole), chosen, whole)
            if plan.uncut:
                log.warning("cached steps are all conservative: %s", plan.uncut)
            if whole and not plan.facts.inputs.timesteps:
                refuse_submodule()
            if whole and captured.symbols and not (plan.facts.inputs.timesteps or sessions.counts()):
                raise Refused(NO_CLOCK)  # run later, as it is, it would be compiled for each of its sizes
            steps = OwnSteps(budget_of(chosen)) if whole else SharedSteps(Part(gm, captured, plan), chosen)
            built = build(captured, plan, example_inputs, ours, plain, steps)
    except torch_private.RestartAnalysis:
        raise
    except Exception as failed:
        error = Refused(EMPTY) if is_empty(example_inputs) and not isinstance(failed, Refused) else failed
        if chosen.strict and (whole or not isinstance(error, Refused)):
            if error is failed:
                raise
            raise error from failed
        if not whole:
            unplanned = Part(gm, captured, None, reason(error), is_random=isinstance(error, Random))
            return PlainPart(ours(gm, list(example_inputs)), SharedSteps(unplanned, chosen))
        run: Compiled = inner(gm, list(example_inputs))
        warn_fallback(error)
        return run
    if ours is not inner:
        call = torch_private.root_call()
        note_once(gm if call is None else call.owner, NO_CUDA_GRAPHS)
    return built


EMPTY = "the call is empty, as with a batch of 0: there is nothing to compute, and sizes cannot be told from it"
NO_CUDA_GRAPHS = (
    "duca runs without CUDA graphs: what they return lies in memory that their next run writes to, and cached features "
    "have to outlive that. mode='max-autotune-no-cudagraphs', or the option inductor_mode of that value, asks for "
    "the rest"
)


def is_empty(inputs: Sequence[Any]) -> bool:
    """Whether a tensor among them has no rows; none where that is symbolic."""
    return any(
        isinstance(given, Tensor) and given.dim() > 0 and isinstance(given.shape[0], int) and not given.shape[0]
        for given in inputs
    )


def without_cuda_graphs(chosen: Options, inner: Compiled, inputs: Sequence[Any]) -> Compiled:
    """`inner`, or the same with CUDA graphs off where it would record them over these inputs.

    The plain graph runs without them too where it runs between ours: the tracker compares results with later latents.
    """
    changes = chosen.inductor_config
    if chosen.inner != "inductor" or not torch_private.records_cuda_graphs(changes, inputs):
        return inner
    return torch_private.inner_compiler("inductor", {**changes, torch_private.CUDA_GRAPHS: False})


def plan_for(captured: Capture, options: Options, whole: bool) -> Plan:
    """Facts and plan of a graph that is the `whole` forward pass or a part of it.

    Raises `Refused` where there is nothing to accelerate, or nothing but a session that counts can tell its steps.
    """
    plan = make_plan(captured.gm.graph, analyse(captured, whole), options, whole)
    if whole and not plan.facts.inputs.timesteps:
        raise Refused(NO_CLOCK)
    return plan


def build(
    captured: Capture, plan: Plan, inputs: Sequence[Any], inner: Compiled, plain: CompiledPlain, steps: Steps
) -> Dispatcher:
    """The dispatcher over one graph per mode, and `plain` for when one of them fails.

    Each is compiled at its first use; where sizes are symbolic at once, while Dynamo still takes guards on them.
    """
    modes = {}
    for mode in Mode:
        if mode in plan.options.modes:
            rewritten, results = rewrite(captured.gm, plan, mode)
            forms = [rewritten]
            if plan.options.inner == "inductor":
                lowered, more = lower(rewritten, plan, mode)
                forms.insert(0, lowered)
                results |= more
            log.debug("%s: %s", mode.value, {name: result.count for name, result in results.items()})
            modes[mode] = CompiledMode(mode.value, forms, inner, captured.autocast)
            if captured.symbols:
                modes[mode].compile(_fake_inputs(captured, rewritten, inputs))
    return Dispatcher(captured, plan, modes, plain, steps)


def _fake_inputs(captured: Capture, rewritten: fx.GraphModule, inputs: Sequence[Any]) -> list[Any]:
    """Dynamo's own `inputs`, which know the numbers behind wrapped scalars, among the fakes of what we added."""
    fakes = [ir.value(node) for node in ir.placeholders(rewritten.graph)]
    first = len(captured.constants)
    return [*fakes[:first], *inputs, *fakes[first + len(inputs) :]]


def refuse_training(inputs: Sequence[Any]) -> None:
    if torch.is_grad_enabled() and any(isinstance(given, Tensor) and given.requires_grad for given in inputs):
        raise Refused("gradients are enabled; run the model under torch.no_grad() or torch.inference_mode()")
