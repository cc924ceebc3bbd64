"""What the backend finds in a model and what it will do with it, before anything is compiled."""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import fx, nn

from duca_compile import refusal, torch_private
from duca_compile.capture.capture import Capture
from duca_compile.cost import step_cost
from duca_compile.cost.peak_memory import peak_bytes
from duca_compile.graph import attention_ops
from duca_compile.methods.base import FULL
from duca_compile.passes import lower, rewrite
from duca_compile.passes.recompute_tokens import RecomputeTokens
from duca_compile.plan.options import Options
from duca_compile.plan.plan import Plan
from duca_compile.study import study


@dataclass(frozen=True)
class GraphReport:
    """One Dynamo graph of the model. `refusal` is set, and all else empty, where the graph is not accelerated.

    `flops` is per step (2 per multiply-add), `weight_bytes` and `cache_bytes` what a step by that recipe reads,
    `held_bytes` what one trajectory keeps between steps, `full_step_bytes` the most that a full step takes at once
    beside weights and inputs, the caches that it fills among them, and `plain_step_bytes` the same of the model alone
    (`liveness.peak_bytes`). `uncounted` are attentions that `flops` leaves out, each with the reason. `left` is
    what passes could not rewrite, with the pass and the reason, and how many places that are, of all recipes.
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


@dataclass(frozen=True)
class Report:
    """`str(report)` is the text table."""

    graphs: tuple[GraphReport, ...]

    def __str__(self) -> str:
        sink = io.StringIO()
        console = Console(file=sink, width=132, color_system=None, legacy_windows=False)
        for number, graph in enumerate(self.graphs):
            if len(self.graphs) > 1:
                console.rule(f"graph {number + 1} of {len(self.graphs)}")
            _print(console, graph)
        return sink.getvalue()


def explain(model: nn.Module, *args: Any, duca_options: Mapping[str, Any] | None = None, **kwargs: Any) -> Report:
    """Runs `model(*args, **kwargs)` once, uncompiled and without gradients, and reports what `backend="duca"` would do.

    It would do so for this call: within `session(key, steps=...)` steps are counted. `duca_options` are the `options`
    of `torch.compile`; without, they are those that `model` was compiled with, by `torch.compile(model, ...)` or
    `model.compile(...)`. Raises `OptionError` for options that make no sense.
    """
    options = Options.parse(torch_private.options_of(model, "duca") if duca_options is None else duca_options)
    reports: list[GraphReport] = []

    def collect(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        reports.append(_report(gm, inputs, options))
        return gm.forward

    with torch.no_grad(), torch_private.any_number_of_graphs():
        compiled: Any = torch.compile(torch_private.uncompiled(model), backend=collect, dynamic=False)
        compiled(*args, **kwargs)
    return Report(tuple(reports))


def _report(gm: fx.GraphModule, inputs: list[Any], options: Options) -> GraphReport:
    try:
        captured, plan = study(gm, inputs, options).planned()
        graphs, left = _rewritten(captured, plan)
        costs = {name: step_cost.cost_of(captured, step, graphs[name]) for name, step in plan.steps.items()}
    except torch_private.RestartAnalysis:
        raise
    except Exception as error:
        return GraphReport(refusal.reason(error), None, {}, {}, {}, 0, 0, 0)
    return GraphReport(
        None,
        plan,
        {name: each.flops for name, each in costs.items()},
        {name: each.weights for name, each in costs.items()},
        {name: each.caches for name, each in costs.items()},
        step_cost.bytes_held(captured, plan),
        peak_bytes(graphs[FULL].graph),
        peak_bytes(captured.gm.graph),
        {node.name: reason for node in captured.gm.graph.nodes if (reason := attention_ops.uncounted(node))},
        left,
    )


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


def _print(console: Console, graph: GraphReport) -> None:
    if graph.plan is None:
        console.print(f"not accelerated: {graph.refusal}", highlight=False)
        return
    facts = graph.plan.facts
    given = facts.inputs
    latents, timestep, conditioning = (
        ", ".join(given.spelled[name] for name in names) or otherwise
        for names, otherwise in (
            (given.latents, "not recognised"),
            (given.timesteps, "not recognised"),
            (given.conditioning, "none"),
        )
    )
    console.print(f"latents: {latents}; timestep: {timestep}; conditioning: {conditioning}", highlight=False)
    for stream in facts.streams:
        console.print(f"stream {stream.index}: {list(stream.shape)} from {stream.root}, {len(stream.sums)} branches")
    console.print(_branch_table(graph.plan))
    console.print(_cost_table(graph))
    full, plain = (f"{size / 2**20:.2f} MiB" for size in (graph.full_step_bytes, graph.plain_step_bytes))
    console.print(f"beside weights, a full step takes {full} at its peak, the model alone {plain}", highlight=False)
    if graph.plan.uncut:
        console.print(f"no step cuts the stream: {graph.plan.uncut}", highlight=False)
    for name, reason in graph.uncounted.items():
        console.print(f"its FLOPs are not counted: {name}: {reason}", highlight=False)
    for reason, places in graph.left.items():
        console.print(f"left as it is, in {places} place{'s' * (places > 1)}: {reason}", highlight=False)
    for name, reason in facts.refusals:
        console.print(f"not a branch: {name}: {reason}", highlight=False)


def _branch_table(plan: Plan) -> Table:
    table = Table(title=f"{len(plan.facts.blocks)} blocks, {len(plan.branches)} branches")
    for heading in (
        "block",
        "branch",
        "stream",
        "kind",
        "source",
        *plan.steps,
        "why not token-wise",
    ):
        table.add_column(heading)
    for number, block in enumerate(plan.facts.blocks):
        for index in block:
            branch = plan.branches[index]
            actions = [step.told(index) for step in plan.steps.values()]
            row = (number, branch.sum, branch.stream, branch.kind, branch.source, *actions, branch.refusal or "")
            table.add_row(*map(str, row))
    return table


def _cost_table(graph: GraphReport) -> Table:
    table = Table(title=f"cost per step; one trajectory holds {graph.held_bytes / 2**20:.2f} MiB of cache")
    for heading in ("recipe", "GFLOPs", "share of full", "weights read (MiB)", "cache read (MiB)"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    full = graph.flops[FULL]
    for name, flops in graph.flops.items():
        share = f"{flops / full:.1%}" if full else "-"
        reads = (graph.weight_bytes[name], graph.cache_bytes[name])
        table.add_row(name, f"{flops / 1e9:.4g}", share, *(f"{read / 2**20:.2f}" for read in reads))
    return table
