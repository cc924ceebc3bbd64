"""Finds the graphs of a model: Dynamo owns them, we only remember in which module's calls and over which weights each
has run.

Either may be all that tells: the weights where a function around the model was compiled, or another instance's call
captured the graph; the module where the weights of a call are not its own, as under `torch.func.functional_call`, or
under FSDP, which runs a graph over weights put together for it.
"""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from duca_compile import torch_private
from duca_compile.generations.tracker import Tracker
from duca_compile.runtime.compiled_graph import CompiledGraph


class _Runs:
    """In whose calls (modules or functions) and over which weights a graph has run, and who told its steps apart."""

    def __init__(self) -> None:
        self.compiled: weakref.WeakSet[Any] = weakref.WeakSet()
        self.weights = torch_private.WeakIdKeyDictionary()
        self.trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()


_runs: "weakref.WeakKeyDictionary[CompiledGraph, _Runs]" = weakref.WeakKeyDictionary()


def add(graph: CompiledGraph, tracker: Tracker, weights: Iterable[Tensor]) -> None:
    """Remembers that the graph ran over these weights, in the call that is running.

    Dynamo runs all instances of a class through one graph.
    """
    runs = _runs.setdefault(graph, _Runs())
    runs.trackers.add(tracker)
    call = torch_private.root_call()
    if call is not None:
        runs.compiled.add(call.compiled)
    for weight in weights:
        runs.weights[weight] = None


def graphs(model: nn.Module) -> list[CompiledGraph]:
    """Every live graph that has run in a call of `model` or a part of it, or over a parameter or buffer of it."""
    modules, state = set(model.modules()), [*model.parameters(), *model.buffers()]
    weights = [weight for each in state for weight in torch_private.inner_tensors(each)]
    return [
        graph
        for graph, runs in list(_runs.items())
        if not modules.isdisjoint(runs.compiled) or any(weight in runs.weights for weight in weights)
    ]


def compiled(graph: CompiledGraph) -> list[Any]:
    """The modules and functions in whose calls the graph has run."""
    return list(_runs[graph].compiled)


def trackers(model: nn.Module) -> set[Tracker]:
    """Who told the steps of those graphs apart."""
    return {tracker for graph in graphs(model) for tracker in _runs[graph].trackers}
