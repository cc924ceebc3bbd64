"""The rewrites: one tuple of passes for every step, in the order they run."""

import logging
import time

from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.passes.base import Pass, PassResult
from duca_compile.passes.choose_tokens import ChooseTokens
from duca_compile.passes.cut_stream import CutStream
from duca_compile.passes.declare_inputs import DeclareInputs
from duca_compile.passes.drop_dead_code import DropDeadCode
from duca_compile.passes.few_row_linears import FewRowLinears
from duca_compile.passes.forecast_features import ForecastFeatures
from duca_compile.passes.hoist_slices import HoistSlices
from duca_compile.passes.narrow_linears import NarrowLinears
from duca_compile.passes.outline_blocks import OutlineBlocks
from duca_compile.passes.recompute_tokens import RecomputeTokens
from duca_compile.passes.reuse_features import ReuseFeatures
from duca_compile.passes.spec import check, check_signature
from duca_compile.passes.store_values import StoreValues
from duca_compile.passes.straighten_streams import StraightenStreams
from duca_compile.passes.take_carried import TakeCarried
from duca_compile.passes.write_out_attention import WriteOutAttention
from duca_compile.plan.step_plan import StepPlan

log = logging.getLogger("duca_compile")

PIPELINE: tuple[Pass, ...] = (
    DeclareInputs(),
    ForecastFeatures(),
    ChooseTokens(),
    RecomputeTokens(),
    ReuseFeatures(),
    CutStream(),
    StoreValues(),
    TakeCarried(),
    DropDeadCode(),
    WriteOutAttention(),
    NarrowLinears(),
    DropDeadCode(),
)
"""What makes a step of a captured graph; a pass that the step has no use for leaves it as it is."""
LOWERING: tuple[Pass, ...] = (FewRowLinears(),)
OUTLINING: tuple[Pass, ...] = (HoistSlices(), StraightenStreams(), OutlineBlocks())


def rewrite(gm: fx.GraphModule, step: StepPlan) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    """A copy of the captured graph rewritten for a step, and what each pass did. The capture stays as it is."""
    return _run(PIPELINE, gm, step)


def lower(gm: fx.GraphModule, step: StepPlan) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    """A copy of the graph rewritten for a step, in a form that suits Inductor. Other compilers may not know its ops."""
    return _run(LOWERING + (OUTLINING if _outlines(gm, step) else ()), gm, step)


def _outlines(gm: fx.GraphModule, step: StepPlan) -> bool:
    """Unless asked for, on CPUs alone, where a block's end costs no launch: for an H100 Inductor writes a DiT's block
    with 11, not 9. These are counts (`python benchmarks count launches`); no GPU has timed them."""
    if step.options.outline is not None:
        return step.options.outline
    given = (ir.value(node) for node in ir.placeholders(gm.graph))
    return all(held.device.type == "cpu" for held in given if isinstance(held, Tensor))


def _run(
    pipeline: tuple[Pass, ...], gm: fx.GraphModule, step: StepPlan
) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    copy = ir.copied(gm)
    results = {}
    for each in pipeline:
        name = type(each).__name__
        results[name] = _timed(each, copy, step)
        check(copy, after=f"{name} ({step.name})")
    check_signature(copy, step)
    copy.recompile()
    return copy, results


def _timed(each: Pass, gm: fx.GraphModule, step: StepPlan) -> PassResult:
    """What the pass did, told in the debug log (`TORCH_LOGS="+duca_compile"`), with the graph where it changed it."""
    before, began = ir.render(gm.graph) if log.isEnabledFor(logging.DEBUG) else "", time.perf_counter()
    result = each.run(gm, step)
    if before:
        seconds, after = time.perf_counter() - began, ir.render(gm.graph)
        told = "".join(f"\n  not {name}: {reason}" for name, reason in result.refusals)
        log.debug("%s, %s: %d in %.1f ms%s", step.name, type(each).__name__, result.count, 1e3 * seconds, told)
        if after != before:
            log.debug("before:\n%s\nafter:\n%s", before, after)
    return result
