"""`torch.compile(model, backend="duca")`: the whole way of the data, top to bottom."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from duca_compile import flops, ir, partly, torch_private
from duca_compile.capture import Capture
from duca_compile.compiled import CompiledMode, CompiledPlain
from duca_compile.dispatch import Dispatcher
from duca_compile.flops import Operations
from duca_compile.modes import Mode
from duca_compile.options import Options
from duca_compile.partly import warn_partly
from duca_compile.parts import Part, PlainPart
from duca_compile.passes import lower, rewrite
from duca_compile.passes.base import PassResult
from duca_compile.plan import Plan
from duca_compile.refusal import Refused, reason, warn_fallback
from duca_compile.split import SharedSteps
from duca_compile.steps import OwnSteps, Steps, budget_of
from duca_compile.study import study

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

    Raises `OptionError` for options that make no sense. A model that cannot be accelerated goes to the inner compiler,
    with one `DucaWarning` that says why (`strict=True` raises it instead).
    """
    chosen = Options.parse(options)
    inner = torch_private.inner_compiler(chosen.inner, mode)
    if chosen.modes == {Mode.FULL}:
        return inner(gm, list(example_inputs))  # type: ignore[no-any-return]
    found, plain = study(gm, example_inputs, chosen), CompiledPlain(gm, inner)
    try:
        captured, plan = found.captured, found.plan
        if captured is None or plan is None or captured.symbols:
            captured, plan = found.planned()  # left to wait for a session, it would be compiled for each of its sizes
        rewritten = {mode: rewrite(captured.gm, plan, mode) for mode in Mode if mode in chosen.modes}
        operations = _operations({mode: graph for mode, (graph, _) in rewritten.items()})
        part = None if found.whole else Part(gm, captured, plan, operations=operations)
        steps = OwnSteps(budget_of(chosen)) if part is None else SharedSteps(part, chosen)
        dispatcher = build(captured, plan, rewritten, example_inputs, inner, plain, steps)
    except Exception as error:
        if chosen.strict and (found.whole or not isinstance(error, Refused)):
            raise
        run: Compiled = inner(gm, list(example_inputs))
        if not found.whole:
            operations = _operations(dict.fromkeys(Mode, found.captured.gm)) if found.captured else {}
            part = Part(gm, found.captured, None, reason(error), operations)
            return PlainPart(run, SharedSteps(part, chosen).pass_by)
        warn_fallback(error)
        return run
    if found.whole and operations:
        _warn_partly(captured, operations, chosen)
    return dispatcher


def _operations(graphs: Mapping[Mode, fx.GraphModule]) -> dict[Mode, Operations]:
    """Empty where they cannot be told: nothing but what we say of a model's cost depends on them."""
    try:
        found = {gm: flops.operations(gm) for gm in graphs.values()}
        return {mode: found[gm] for mode, gm in graphs.items()}
    except Exception:
        log.debug("the cost of a graph could not be counted", exc_info=True)
        return {}


def _warn_partly(captured: Capture, operations: Mapping[Mode, Operations], options: Options) -> None:
    """Where sizes are symbolic, by those of the call at hand."""
    symbols = ir.symbols(captured.gm.graph).items()
    sizes = {symbol: torch_private.size_now(ir.value(node)) for symbol, node in symbols}
    try:
        costs = {mode: sum(flops.count(found, sizes)) for mode, found in operations.items()}
    except Exception:
        log.debug("the cost of a graph could not be counted", exc_info=True)
        return
    call = torch_private.root_call()
    warn_partly(captured if call is None else call.owner, costs, options, partly.LOOK)


def build(
    captured: Capture,
    plan: Plan,
    graphs: Mapping[Mode, tuple[fx.GraphModule, dict[str, PassResult]]],
    inputs: Sequence[Any],
    inner: Compiled,
    plain: CompiledPlain,
    steps: Steps,
) -> Dispatcher:
    """The dispatcher over one of the `graphs` per mode, and `plain` for when one of them fails.

    Each is compiled at its first use; where sizes are symbolic at once, while Dynamo still takes guards on them.
    """
    modes = {}
    for mode, (rewritten, results) in graphs.items():
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
