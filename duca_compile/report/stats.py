"""What a compiled model has done so far, and how to make it forget."""

from collections import Counter
from collections.abc import Iterable

from torch import nn

from duca_compile import torch_private
from duca_compile.generations.tracker import Tracker
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.refusal import SPLIT, remembered
from duca_compile.report.compiled_modules import Model, modules_of, parts_of
from duca_compile.report.counts import Stats
from duca_compile.runtime import registry
from duca_compile.runtime.compiled_graph import CompiledGraph


def stats(model: Model) -> Stats:
    """Counts over every graph that backend "duca" has run in calls of `model`, or over its weights.

    `model` is the compiled or the original module, a compiled function around it, or a pipeline: anything with
    `components`, of which all modules count. Models of one class can share a graph: its counts are those of all.
    Raises `TypeError` for anything else.
    """
    modules = modules_of(model)
    graphs, trackers = _graphs(modules), _trackers(modules)
    methods = [graph.plan.options.method for graph in graphs] or [Options().method]
    names = dict.fromkeys(recipe.name for method in methods for recipe in method.recipes())
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
    notes = _notes(model, modules)
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
        compiled=any(torch_private.options_of(each, "duca") is not None for each in parts_of(model)),
        notes=notes,
    )


def reset(model: Model) -> None:
    """Drops all caches of `model`, which is as of `stats`: the next call of each trajectory is FULL."""
    for tracker in _trackers(modules_of(model)):
        tracker.clear()


def _graphs(modules: Iterable[nn.Module]) -> list[CompiledGraph]:
    return list(dict.fromkeys(graph for module in modules for graph in registry.graphs(module)))


def _trackers(modules: Iterable[nn.Module]) -> set[Tracker]:
    return {tracker for module in modules for tracker in registry.trackers(module)}


def _notes(model: Model, modules: Iterable[nn.Module]) -> tuple[str, ...]:
    """Of what was compiled, and of all parts of it."""
    compiled = [torch_private.original(each) for each in parts_of(model) if callable(each)]
    parts = [part for module in modules for part in module.modules()]
    return tuple(dict.fromkeys(note for each in (*compiled, *parts) for note in remembered(each)))


def _speedup(graphs: list[CompiledGraph], trackers: set[Tracker]) -> float | None:
    """The least that the steps come to, whichever of the graphs ran those of a tracker."""
    found = [_saved(graph, tracker) for tracker in trackers if tracker.steps.total() for graph in graphs]
    known = [saved for saved in found if saved is not None]
    return min(known) if known and len(known) == len(found) and len(trackers) == len(graphs) else None


def _saved(graph: CompiledGraph, tracker: Tracker) -> float | None:
    if not graph.flops.keys() >= (+tracker.steps).keys():
        return None
    spent = sum(times * graph.flops[name] for name, times in (+tracker.steps).items())
    return tracker.steps.total() * graph.flops[FULL] / spent if spent else None
