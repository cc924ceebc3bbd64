"""What a compiled model has done so far, and how to make it forget."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from duca_compile.plan.options import Options
from duca_compile.runtime import registry


@dataclass(frozen=True)
class Stats:
    """`graphs` that are accelerated; `steps` by recipe, each one forward pass; `held` of them could not forecast, as
    the sampler had added fresh noise since the last two full steps, and took what the last one stored; `resets` by
    reason: why generations began or started over; `trajectories` that keep caches; `bytes` held in caches now, and the
    most ever held at once; `compile_seconds` by recipe over all graphs."""

    graphs: int
    steps: Counter[str]
    held: int
    resets: dict[str, int]
    trajectories: int
    bytes: int
    peak_bytes: int
    compile_seconds: dict[str, float]


def stats(model: nn.Module) -> Stats:
    """Counts over every graph that backend "duca" has run in calls of `model`, or over its weights.

    `model` is the compiled or the original one. Models of one class can share a graph: its counts are those of all.
    """
    graphs, trackers = registry.graphs(model), registry.trackers(model)
    methods = [graph.plan.options.method for graph in graphs] or [Options().method]
    names = dict.fromkeys(name for method in methods for name in method.NAMES)
    steps: Counter[str] = Counter(dict.fromkeys(names, 0))
    resets: Counter[str] = Counter()
    seconds = dict.fromkeys(names, 0.0)
    for tracker in trackers:
        steps.update(tracker.steps)
        resets.update(tracker.resets)
    for graph in graphs:
        for name, compiled in graph.recipes.items():
            seconds[name] += compiled.compile_seconds
    live = [trajectory for tracker in trackers for trajectory in tracker.live]
    return Stats(
        graphs=len(graphs),
        steps=steps,
        held=sum(tracker.held for tracker in trackers),
        resets=dict(+resets),
        trajectories=sum(trajectory.bytes > 0 for trajectory in live),
        bytes=sum(trajectory.bytes for trajectory in live),
        peak_bytes=sum(budget.peak for budget in {tracker.budget for tracker in trackers}),
        compile_seconds=seconds,
    )


def reset(model: nn.Module) -> None:
    """Drops all caches of `model`: the next call of each trajectory is FULL."""
    for tracker in registry.trackers(model):
        tracker.clear()
