"""What the backend finds in one of Dynamo's graphs, and what its steps would cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx

from duca_compile import refusal, torch_private
from duca_compile.analysis.joined_streams import joined
from duca_compile.capture.capture import Capture
from duca_compile.cost import step_cost
from duca_compile.cost.peak_memory import peak_bytes
from duca_compile.graph import attention_ops, ir
from duca_compile.graph.dead_code import drop_dead_code
from duca_compile.methods.base import FULL
from duca_compile.passes import lower, rewrite
from duca_compile.passes.probe_graph import probe_graph
from duca_compile.passes.recompute_tokens import RecomputeTokens
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan
from duca_compile.report.units import counted
from duca_compile.study import study


@dataclass(frozen=True, repr=False)
class GraphReport:
    """One Dynamo graph of the model. `refusal` is set, and all else empty, where the graph is not accelerated.

    `flops` is per step (2 per multiply-add), `weight_bytes` and `cache_bytes` what a step by that recipe reads,
    `held_bytes` what one trajectory keeps between steps, `full_step_bytes` the most that a full step takes at once
    beside weights and inputs, the caches that it fills among them, and `plain_step_bytes` the same of the model alone
    (`liveness.peak_bytes`). `uncounted` are attentions that `flops` leaves out, each with the reason. `left` is
    what passes could not rewrite, with the pass and the reason, and how many places that are, of all recipes. `whole`:
    it is all of the forward pass that was called; `runs`: how often one forward pass runs it; `filled_bytes`: those of
    `held_bytes` that a full step fills, where the rest are values of earlier ones; `joined`: which streams one
    goes on from, by its index.
    """

    refusal: str | None
    plan: Plan | None
    flops: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    cache_bytes: Mapping[str, int]
    held_bytes: int
    full_step_bytes: int
    plain_step_bytes: int
    uncounted: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    whole: bool = True
    runs: int = 1
    filled_bytes: int = 0
    joined: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        if self.plan is None:
            return f"<GraphReport: not accelerated, {self.refusal}>"
        found = counted(len(self.plan.facts.blocks), "block"), counted(len(self.plan.branches), "branch")
        return f"<GraphReport: {', '.join((*found, *self.plan.steps))}>"


def report_of(gm: fx.GraphModule, inputs: list[Any], options: Options) -> GraphReport:
    """Of a graph that Dynamo is compiling just now."""
    whole = True
    try:
        found = study(gm, inputs, options)
        whole = found.whole
        captured, plan = found.planned()
        graphs, left = _rewritten(captured, plan)
        costs = {name: step_cost.cost_of(captured, step, graphs[name]) for name, step in plan.steps.items()}
        if plan.probing:
            first = step_cost.cost_of_probe(captured, probe_graph(captured.gm, plan.probing))
            costs = {name: cost + first for name, cost in costs.items()}
    except torch_private.RestartAnalysis:
        raise
    except Exception as error:
        return GraphReport(refusal.reason(error), None, {}, {}, {}, 0, 0, 0, whole=whole)
    return GraphReport(
        None,
        plan,
        {name: each.flops for name, each in costs.items()},
        {name: each.weights for name, each in costs.items()},
        {name: each.caches for name, each in costs.items()},
        step_cost.bytes_held(captured, plan),
        peak_bytes(graphs[FULL].graph),
        peak_bytes(_plain(captured)),
        {node.name: reason for node in captured.gm.graph.nodes if (reason := attention_ops.uncounted(node))},
        left,
        whole,
        filled_bytes=_filled(captured, plan),
        joined=joined(captured.gm.graph, plan.facts.streams),
    )


def _plain(captured: Capture) -> fx.Graph:
    """The graph without what was added to it for caches."""
    copy = ir.copied(captured.gm)
    drop_dead_code(copy.graph)
    return copy.graph


def _filled(captured: Capture, plan: Plan) -> int:
    """What a full step stores: one value of each slot."""
    full = plan.steps[FULL]
    last = replace(full, probing=None, writes=tuple(replace(slot, history=1) for slot in full.writes))
    return step_cost.bytes_held(captured, replace(plan, steps={FULL: last}))


def _rewritten(captured: Capture, plan: Plan) -> tuple[dict[str, fx.GraphModule], dict[str, int]]:
    """The graph of each recipe, and what passes left as it is, as `GraphReport.left` tells it."""
    graphs, left = {}, Counter[str]()
    for name, step in plan.steps.items():
        graphs[name], results = rewrite(captured.gm, step)
        if plan.options.inner == "inductor":
            results |= lower(graphs[name], step)[1]
        results.pop(RecomputeTokens.__name__)  # the table of branches says it
        left.update(f"{each}: {reason}" for each, result in results.items() for _, reason in result.refusals)
    return graphs, dict(left)
