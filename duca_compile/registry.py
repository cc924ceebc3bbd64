"""Finds the graphs of a model: Dynamo owns them, we only remember over which weights each has run."""

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from duca_compile.dispatch import Dispatcher
    from duca_compile.tracker import Tracker


class _Runs:
    """Over which weights a graph has run, and who told its steps apart."""

    def __init__(self) -> None:
        self.weights: dict[int, weakref.ref[Any]] = {}
        self.trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()

    def over(self, weight: Tensor) -> bool:
        known = self.weights.get(id(weight))
        return known is not None and known() is weight


_runs: "weakref.WeakKeyDictionary[Dispatcher, _Runs]" = weakref.WeakKeyDictionary()


def add(graph: "Dispatcher", tracker: "Tracker", weights: Iterable[Tensor]) -> None:
    """Remembers that the graph ran over these weights. Dynamo runs all instances of a class through one graph."""
    runs = _runs.setdefault(graph, _Runs())
    runs.trackers.add(tracker)
    for weight in weights:
        if not runs.over(weight):
            runs.weights[id(weight)] = weakref.ref(weight)


def graphs(model: nn.Module) -> list["Dispatcher"]:
    """Every live graph that has run over a parameter or buffer of `model`."""
    own = [*model.parameters(), *model.buffers()]
    return [graph for graph, runs in list(_runs.items()) if any(map(runs.over, own))]


def trackers(model: nn.Module) -> set["Tracker"]:
    """Who told the steps of those graphs apart."""
    return {tracker for graph in graphs(model) for tracker in _runs[graph].trackers}
