"""What a compiled model has done so far, and how to make it forget."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from duca_compile import torch_private
from duca_compile.generations.tracker import Tracker
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.refusal import SPLIT, reasons_of, warnings_of
from duca_compile.report.compiled_modules import Model, modules_of, parts_of
from duca_compile.report.counts import MANY, Generation, Stats
from duca_compile.runtime import registry
from duca_compile.runtime.compiled_graph import CompiledGraph

LISTED = 100
"""Generations that are told of one by one."""


def stats(model: Model) -> Stats:
    """Counts over every graph that backend "duca" has run in calls of `model`, or over its weights.

    `model` is the compiled or the original module, a compiled function around it, or a pipeline: anything with
    `components`, of which all modules count. Models of one class can share a graph: its counts are those of all.
    Raises `TypeError` for anything else.
    """
    modules = modules_of(model)
    graphs, trackers = _graphs(modules), _trackers(modules)
    names = dict.fromkeys(name for graph in graphs for name in graph.plan.steps)
    names = names or dict.fromkeys(recipe.name for recipe in Options().method.recipes())
    steps: Counter[str] = Counter(dict.fromkeys(names, 0))
    full: Counter[str] = Counter()
    resets: Counter[str] = Counter()
    seconds = dict.fromkeys(names, 0.0)
    for tracker in trackers:
        steps.update(tracker.ran.steps)
        full.update(tracker.ran.full)
        resets.update(tracker.resets)
    for graph in graphs:
        for name in graph.plan.steps:
            seconds[name] += graph.recipes[name].compile_seconds
    live = [trajectory for tracker in trackers for trajectory in tracker.live]
    whose = _whose(model, modules, graphs)
    notes = _said(reasons_of, whose)
    return Stats(
        graphs=len(graphs),
        steps=steps,
        held=sum(tracker.held for tracker in trackers),
        resets=dict(+resets),
        trajectories=sum(trajectory.bytes > 0 for trajectory in live),
        bytes=sum(trajectory.bytes for trajectory in live),
        peak_bytes=sum(budget.peak for budget in {tracker.budget for tracker in trackers}),
        compile_seconds=seconds,
        speedup=None if SPLIT in notes else _speedup(graphs, trackers),
        step_seconds=_step_seconds(graphs),
        **_of_generations(graphs, trackers),
        full=dict((+full).most_common()),
        compiled=any(torch_private.options_of(each, "duca") is not None for each in parts_of(model)),
        notes=notes,
        warnings=_said(warnings_of, whose),
        sharing=_sharing(graphs, modules),
    )


def reset(model: Model) -> None:
    """Drops all caches of `model`, which is as of `stats`: the next call of each trajectory is FULL."""
    for tracker in _trackers(modules_of(model)):
        tracker.clear()


def _graphs(modules: Iterable[nn.Module]) -> list[CompiledGraph]:
    return list(dict.fromkeys(graph for module in modules for graph in registry.graphs(module)))


def _trackers(modules: Iterable[nn.Module]) -> set[Tracker]:
    return {tracker for module in modules for tracker in registry.trackers(module)}


def _whose(model: Model, modules: Iterable[nn.Module], graphs: Iterable[CompiledGraph]) -> list[Any]:
    """In whose calls there may have been something to say: of what was compiled, of all parts of it, and of what else
    ran through its graphs."""
    compiled = [torch_private.original(each) for each in parts_of(model) if callable(each)]
    parts = [part for module in modules for part in module.modules()]
    return [*compiled, *parts, *(each for graph in graphs for each in registry.compiled(graph))]


def _said(of: Callable[[object], tuple[str, ...]], whose: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(told for each in whose for told in of(each)))


def _sharing(graphs: Iterable[CompiledGraph], modules: Iterable[nn.Module]) -> int:
    """How many modules beside these, and what they are part of or made of, ran through the graphs."""
    own = {part for module in modules for part in module.modules()}
    ran = {each for graph in graphs for each in registry.compiled(graph) if isinstance(each, nn.Module)}
    return sum(own.isdisjoint(each.modules()) for each in ran)


def _speedup(graphs: list[CompiledGraph], trackers: set[Tracker]) -> float | None:
    """The least that the steps come to, whichever of the graphs ran those of a tracker."""
    ran = [tracker.ran.steps for tracker in trackers if tracker.ran.steps.total()]
    found = [_saved(graph, steps) for steps in ran for graph in graphs]
    known = [saved for saved in found if saved is not None]
    return min(known) if known and len(known) == len(found) and len(trackers) == len(graphs) else None


def _saved(graph: CompiledGraph, steps: Counter[str]) -> float | None:
    ran = +steps
    if not graph.flops.keys() >= ran.keys():
        return None
    spent = sum(times * graph.flops[name] for name, times in ran.items())
    return ran.total() * graph.flops[FULL] / spent if spent else None


def _of_generations(graphs: Sequence[CompiledGraph], trackers: Iterable[Tracker]) -> dict[str, Any]:
    """How many there were, what they saved, and the last of them."""
    tallies = [each for tracker in trackers for each in tracker.generations]
    generations = [Generation(dict(+each.steps), dict(+each.full), _least(graphs, each.steps)) for each in tallies]
    known = [each.speedup for each in generations if each.speedup is not None]
    some = len(known) > 1 and len(known) == len(generations)
    return {
        "generations": len(generations),
        "speedups": _spread(known) if some else None,
        "last_generations": tuple(generations[-LISTED:]),
    }


def _least(graphs: Iterable[CompiledGraph], steps: Counter[str]) -> float | None:
    """What they saved, by the graph that saves least, where several ran."""
    saved = [_saved(graph, steps) for graph in graphs]
    known = [each for each in saved if each is not None]
    return min(known) if known and len(known) == len(saved) else None


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < MANY:
        return min(values), statistics.median(values), max(values)
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return tenths[0], tenths[4], tenths[8]


def _step_seconds(graphs: Iterable[CompiledGraph]) -> dict[str, float]:
    """The mean by recipe, over all graphs."""
    ran: Counter[str] = Counter()
    took: dict[str, float] = {}
    for graph in graphs:
        for name in graph.plan.steps:
            ran[name] += graph.recipes[name].timed
            took[name] = took.get(name, 0.0) + graph.recipes[name].seconds
    return {name: seconds / ran[name] for name, seconds in took.items() if ran[name]}
