"""The rewrites: one tuple of passes per mode, in the order they run."""

from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.passes.base import Pass, PassResult
from duca_compile.passes.cut_stream import CutStream
from duca_compile.passes.declare_inputs import DeclareInputs
from duca_compile.passes.drop_dead_code import DropDeadCode
from duca_compile.passes.few_row_linears import FewRowLinears
from duca_compile.passes.hoist_slices import HoistSlices
from duca_compile.passes.narrow_linears import NarrowLinears
from duca_compile.passes.outline_blocks import OutlineBlocks
from duca_compile.passes.recompute_tokens import RecomputeTokens
from duca_compile.passes.reuse_features import ReuseFeatures
from duca_compile.passes.spec import check, check_signature
from duca_compile.passes.store_values import StoreValues
from duca_compile.passes.straighten_streams import StraightenStreams
from duca_compile.plan.modes import Mode
from duca_compile.plan.plan import Plan

PIPELINES: dict[Mode, tuple[Pass, ...]] = {
    Mode.FULL: (DeclareInputs(Mode.FULL), StoreValues(Mode.FULL), DropDeadCode()),
    Mode.CONSERVATIVE: (
        DeclareInputs(Mode.CONSERVATIVE),
        RecomputeTokens(),
        ReuseFeatures(),
        StoreValues(Mode.CONSERVATIVE),
        DropDeadCode(),
        NarrowLinears(),
        DropDeadCode(),
    ),
    Mode.AGGRESSIVE: (DeclareInputs(Mode.AGGRESSIVE), CutStream(), DropDeadCode()),
}


LOWERINGS: dict[Mode, tuple[Pass, ...]] = {
    Mode.FULL: (),
    Mode.CONSERVATIVE: (FewRowLinears(),),
    Mode.AGGRESSIVE: (FewRowLinears(),),
}
OUTLINING: dict[Mode, tuple[Pass, ...]] = {
    mode: (HoistSlices(), StraightenStreams(mode), OutlineBlocks()) for mode in Mode
}


def rewrite(gm: fx.GraphModule, plan: Plan, mode: Mode) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    """A copy of the captured graph rewritten for `mode`, and what each pass did. The capture stays as it is."""
    return _run(PIPELINES[mode], gm, plan, mode)


def lower(gm: fx.GraphModule, plan: Plan, mode: Mode) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    """A copy of the graph rewritten for `mode`, in a form that suits Inductor. Other compilers may not know its ops."""
    return _run(LOWERINGS[mode] + (OUTLINING[mode] if _outlines(gm, plan) else ()), gm, plan, mode)


def _outlines(gm: fx.GraphModule, plan: Plan) -> bool:
    """Unless asked for, on CPUs alone, where a block's end costs no launch: on an H100 a DiT's block has 11, not 9."""
    if plan.options.outline is not None:
        return plan.options.outline
    given = (ir.value(node) for node in ir.placeholders(gm.graph))
    return all(held.device.type == "cpu" for held in given if isinstance(held, Tensor))


def _run(
    pipeline: tuple[Pass, ...], gm: fx.GraphModule, plan: Plan, mode: Mode
) -> tuple[fx.GraphModule, dict[str, PassResult]]:
    copy = ir.copied(gm)
    results = {}
    for step in pipeline:
        name = type(step).__name__
        results[name] = step.run(copy, plan)
        check(copy, after=f"{name} ({mode.value})")
    check_signature(copy, plan, mode)
    copy.recompile()
    return copy, results
