"""`torch.compile(model, backend="duca")`: the whole way of the data, top to bottom."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from duca_compile import ir, torch_private
from duca_compile.capture import Capture
from duca_compile.compiled import CompiledMode, CompiledPlain
from duca_compile.dispatch import Dispatcher
from duca_compile.modes import Mode
from duca_compile.options import Options
from duca_compile.parts import Part, PlainPart
from duca_compile.passes import lower, rewrite
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
        steps = OwnSteps(budget_of(chosen)) if found.whole else SharedSteps(Part(gm, captured, plan), chosen)
        return build(captured, plan, example_inputs, inner, plain, steps)
    except Exception as error:
        if chosen.strict and (found.whole or not isinstance(error, Refused)):
            raise
        run: Compiled = inner(gm, list(example_inputs))
        if not found.whole:
            return PlainPart(run, SharedSteps(Part(gm, found.captured, None, reason(error)), chosen).pass_by)
        warn_fallback(error)
        return run


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
