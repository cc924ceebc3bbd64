"""`torch.compile(model, backend="duca")`: the way of the data, top to bottom, once `study.py` has planned it."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import fx

from duca_compile import torch_private
from duca_compile.capture.capture import Capture
from duca_compile.capture.flatten import Flatten
from duca_compile.cost import flops
from duca_compile.cost.flops import Operations
from duca_compile.graph import ir
from duca_compile.graph.collectives import waits_of
from duca_compile.methods.base import FULL
from duca_compile.passes import lower, rewrite
from duca_compile.passes.probe_graph import probe_graph, probe_signature
from duca_compile.plan.devices import refuse_shapes_alone
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan
from duca_compile.plan.probing import BEFORE
from duca_compile.plan.step_plan import StepPlan
from duca_compile.refusal import (
    NOTHING_CACHED,
    SPLIT,
    OfAllParts,
    Refused,
    note_once,
    reason,
    remember,
    shown_not_raised,
    warn_fallback,
    warnings_after,
)
from duca_compile.runtime import partly
from duca_compile.runtime.agreed_steps import AgreedSteps
from duca_compile.runtime.agreement import StandsAside, agreement_of
from duca_compile.runtime.compile_line import Turns
from duca_compile.runtime.compiled import CompiledPlain, CompiledRecipe
from duca_compile.runtime.dispatch import Dispatcher
from duca_compile.runtime.failures import release
from duca_compile.runtime.fixed_memory import FixedMemory
from duca_compile.runtime.partly import warn_partly
from duca_compile.runtime.probe import CompiledProbe
from duca_compile.runtime.recorded import told_if_not_recorded
from duca_compile.runtime.split.forward import SharedSteps
from duca_compile.runtime.split.part import Part, PlainPart
from duca_compile.runtime.steps import OwnSteps, Steps, budget_of
from duca_compile.study import Study, study

log = logging.getLogger("duca_compile")
Compiled = Callable[..., Any]
Rewritten = Mapping[str, fx.GraphModule]


def duca(
    gm: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """The backend Dynamo calls. `mode` is Inductor's; `options` are what `duca_compile.Options.parse` takes.

    `torch.compile` takes one of the two; what else Inductor should know is among the options.

    Raises `OptionError` for options that make no sense. A model that cannot be accelerated goes to the inner compiler,
    with one `DucaWarning` that says why (`strict=True` raises a `Refused` instead).
    """
    chosen = Options.parse(options).in_mode(mode)
    if not chosen.are_cached:
        remember(NOTHING_CACHED)
        inner = torch_private.inner_compiler(chosen.inner, chosen.inductor_config)
        return inner(gm, list(example_inputs))  # type: ignore[no-any-return]
    with warnings_after():
        return accelerated(gm, example_inputs, chosen)


def accelerated(gm: fx.GraphModule, example_inputs: Sequence[Any], chosen: Options) -> Compiled:
    """The graph under options that cache steps, or as the inner compiler alone makes it."""
    inner = torch_private.inner_compiler(chosen.inner, chosen.inductor_config)
    ours = without_cuda_graphs(chosen, inner, example_inputs)
    found, plain = Study(), CompiledPlain(gm, ours)
    try:
        with shown_not_raised():
            found = study(gm, example_inputs, chosen)
            _note(found)
            recorded = ours is not inner and can_be_recorded(found)
            chosen_inner = told_if_not_recorded(inner, _owner(gm)) if recorded else ours
            dispatcher = build(gm, found, example_inputs, chosen_inner, plain, recorded)
    except torch_private.RestartAnalysis:
        raise
    except Exception as error:
        remember(reason(error))
        if chosen.strict and (found.whole or not isinstance(error, Refused)):
            raise
        run: Compiled
        if found.whole:
            run = beside_others(inner(gm, list(example_inputs)), found, error)
            warn_fallback(error)
        else:
            run = plain_part(gm, found, error, example_inputs, ours, chosen)
        release(error)
        return run
    if ours is not inner and not recorded:
        note_once(_owner(gm), NO_CUDA_GRAPHS)
    return dispatcher


def _owner(graph: fx.GraphModule) -> object:
    """What warnings about a graph are about."""
    call = torch_private.root_call()
    return graph if call is None else call.owner


def _note(found: Study) -> None:
    if not found.whole:
        remember(SPLIT)
    if found.error is not None:
        remember(reason(found.error))


NO_CUDA_GRAPHS = (
    "duca runs this model without CUDA graphs: they are recorded where the forward pass is one graph "
    "(TORCH_LOGS=graph_breaks shows what splits it), its sizes are fixed (dynamic=False) and no method decides at run "
    "time. "
    "mode='max-autotune-no-cudagraphs', or the option inductor_mode of that value, asks for the rest of max-autotune"
)


def can_be_recorded(found: Study) -> bool:
    """Whether the recipes of this graph may run as CUDA graphs."""
    if not found.whole or found.captured is None or found.plan is None or found.captured.symbols:
        return False
    return found.plan.probing is None


def without_cuda_graphs(chosen: Options, inner: Compiled, inputs: Sequence[Any]) -> Compiled:
    """`inner`, or the same with CUDA graphs off where it would record them over these inputs.

    The plain graph runs without them too where it runs between ours: the tracker compares results with later latents.
    """
    changes = chosen.inductor_config
    if chosen.inner != "inductor" or not torch_private.records_cuda_graphs(changes, inputs):
        return inner
    return torch_private.inner_compiler("inductor", {**changes, torch_private.CUDA_GRAPHS: False})


def build(
    gm: fx.GraphModule,
    found: Study,
    inputs: Sequence[Any],
    inner: Compiled,
    plain: CompiledPlain,
    recorded: bool = False,
) -> Dispatcher:
    """The dispatcher over one graph per recipe, and `plain` for when one of them fails. `recorded`: as CUDA graphs.

    Raises what `found` has against it; where sizes are symbolic, also that there is nothing to tell steps apart: left
    to wait for a session, the graph would be compiled for each of its sizes.
    """
    refuse_shapes_alone(inputs)
    captured, plan = found.captured, found.plan
    if captured is None or plan is None or captured.symbols:
        captured, plan = found.planned()
    plan = plan.in_fixed_memory() if recorded else plan
    if plan.uncut:
        log.warning("no step cuts the stream: %s", plan.uncut)
    rewritten = {name: rewrite(captured.gm, step)[0] for name, step in plan.steps.items()}
    probe = probe_graph(captured.gm, plan.probing) if plan.probing else None
    operations = plan.with_same(_operations(rewritten, probe))
    steps: Steps
    agreement = agreement_of(captured.gm) if found.whole else None
    if agreement is not None:
        if not agreement.reaches_all:
            raise Refused(
                "the groups of processes that this model waits for are not the dimensions of one mesh of all ranks, in "
                "order, along which they could agree; make them by init_device_mesh"
            )
        steps = AgreedSteps(budget_of(plan.options), agreement, waiting(plan, rewritten))
    elif found.whole:
        steps = OwnSteps(budget_of(plan.options))
    else:
        steps = SharedSteps(Part(gm, captured.flatten, captured, plan, operations=operations), plan.options)
    memory = FixedMemory(rewritten[FULL], plan.steps[FULL]) if recorded else None
    recipes = plan.with_same(compiled(captured, plan, rewritten, captured.flatten(inputs), inner))
    costs = _costs(captured, operations)
    if found.whole and costs:
        warn_partly(_owner(gm), costs, plan.options, partly.LOOK)
    first = compiled_probe(captured, plan, probe, inner)
    return Dispatcher(captured, plan, recipes, plain, steps, memory, costs, first)


def waiting(plan: Plan, graphs: Rewritten) -> Hashable:
    """What must be the same in all processes that run these graphs together: for what they wait, in order, what each
    recipe does with every branch, and by which numbers it chooses tokens and rounds what is kept."""
    return (
        plan.seed,
        str(plan.options.cache_dtype),
        *((name, [each.name for each in plan.steps[name].actions], waits_of(gm)) for name, gm in graphs.items()),
    )


def beside_others(run: Compiled, found: Study, error: Exception) -> Compiled:
    """A graph that runs as it is. A reason for it that every process finds in the same program holds for all of them;
    for any other one, those that run it together are told so at each call."""
    try:
        agreement = agreement_of(found.captured.gm) if found.captured is not None else None
    except Refused:
        return run
    if agreement is None or (isinstance(error, Refused) and agreement.reaches_all):
        return run
    return StandsAside(run, agreement)


def plain_part(
    gm: fx.GraphModule, found: Study, error: Exception, inputs: Sequence[Any], inner: Compiled, chosen: Options
) -> PlainPart:
    """The part of a split forward pass, as the inner compiler alone makes it."""
    run, flatten = inner(gm, list(inputs)), Flatten.like(inputs)
    operations = _operations(dict.fromkeys(chosen.recipes, found.captured.gm)) if found.captured else {}
    part = Part(gm, flatten, found.captured, None, reason(error), operations, ends_all=isinstance(error, OfAllParts))
    return PlainPart(run, flatten, SharedSteps(part, chosen))


def compiled(
    captured: Capture, plan: Plan, graphs: Rewritten, inputs: Sequence[Any], inner: Compiled
) -> dict[str, CompiledRecipe]:
    """Each of the `graphs`, compiled at its first use; where sizes are symbolic at once, while Dynamo still takes
    guards on them."""
    recipes, turns = {}, Turns(len(graphs))
    for name, rewritten in graphs.items():
        forms = [rewritten]
        if plan.options.inner == "inductor":
            forms.insert(0, lower(rewritten, plan.steps[name])[0])
        for form in forms:
            torch_private.declare_static(form.graph, static(captured, plan.steps[name]))
        recipes[name] = CompiledRecipe(name, forms, inner, captured.autocast, turns)
        if captured.symbols:
            fakes = [ir.value(node) for node in ir.placeholders(rewritten.graph)]
            # Dynamo's own inputs know the numbers behind wrapped scalars
            recipes[name].compile(captured.signature.with_call(fakes, inputs))
    return recipes


def compiled_probe(
    captured: Capture, plan: Plan, probe: fx.GraphModule | None, inner: Compiled
) -> CompiledProbe | None:
    """Compiled at its first use, as recipes are; None where the method has none."""
    if probe is None or plan.probing is None:
        return None
    signature = probe_signature(captured.signature, plan.probing)
    before = next(ir.value(node) for node in ir.placeholders(probe.graph) if node.name == BEFORE)
    torch_private.declare_static(probe.graph, list(captured.state))
    run = CompiledRecipe("probe", [probe], inner, captured.autocast)
    like = tuple(before.shape), before.dtype, before.device
    return CompiledProbe(plan.probing, signature, captured.constants, run, like)


def static(captured: Capture, step: StepPlan) -> list[str]:
    """The inputs that lie at one place at every call: the model's own state, and caches in fixed memory."""
    memory = (*step.signature.reads, *step.signature.memory) if step.fixed else ()
    return [*captured.state, *memory]


def _operations(graphs: Mapping[str, fx.GraphModule], probe: fx.GraphModule | None = None) -> dict[str, Operations]:
    """Those of each recipe's graph and of the `probe` that runs before. Empty where they cannot be told: nothing but
    what we say of a model's cost depends on them."""
    try:
        first = Counter(flops.operations(probe)) if probe else Counter[flops.Operation]()
        found = {gm: first + Counter(flops.operations(gm)) for gm in graphs.values()}
        return {name: found[gm] for name, gm in graphs.items()}
    except Exception:
        log.debug("the cost of a graph could not be counted", exc_info=True)
        return {}


def _costs(captured: Capture, operations: Mapping[str, Operations]) -> dict[str, int] | None:
    """FLOPs by recipe; where sizes are symbolic, by those of the call at hand."""
    symbols = ir.symbols(captured.gm.graph).items()
    sizes = {symbol: torch_private.size_now(ir.value(node)) for symbol, node in symbols}
    return flops.per_recipe(operations, sizes)
