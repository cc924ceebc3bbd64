"""In which mode a graph runs, and on which caches, where it is the whole forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from duca_compile import registry
from duca_compile.modes import Mode
from duca_compile.selection import RandomTokens
from duca_compile.trajectory import Cache, Tracker

if TYPE_CHECKING:
    from duca_compile.dispatch import Dispatcher


_ONLY = "the only graph"


@dataclass(frozen=True)
class Step:
    """Run in `mode`. Without a `cache`, the mode is FULL and nothing is kept."""

    mode: Mode
    cache: Cache | None
    abandon: Callable[[], None]
    """To be called when the step fails: its trajectory's caches can no longer be trusted."""


class Steps(Protocol):
    def next(self, graph: "Dispatcher", args: Sequence[Any]) -> Step: ...

    def clear(self) -> None: ...


class OwnSteps:
    """The graph is the whole forward pass: the step is told by the graph's own inputs."""

    def __init__(self) -> None:
        self.tracker = Tracker()

    def next(self, graph: "Dispatcher", args: Sequence[Any]) -> Step:
        given, options = graph.arguments, graph.plan.options
        weights = given.weights(args)
        visit = self.tracker.visit(given.timesteps(args), given.conditioning(args), weights, given.numbers(args))
        trajectory = visit.trajectory
        if trajectory.step == 0:
            registry.add(graph, self.tracker, weights)
        if not trajectory.caches:
            trajectory.caches[_ONLY] = new_cache(graph, args, options.seed)
        mode = Mode.FULL if visit.repeated else options.mode_at(trajectory.step)
        self.tracker.steps[mode] += 1
        return Step(mode, trajectory.caches[_ONLY], lambda: self.tracker.abandon(trajectory, mode))

    def clear(self) -> None:
        self.tracker.clear()


def new_cache(graph: "Dispatcher", args: Sequence[Any], seed: int) -> Cache:
    sizes = graph.arguments.sizes(args)
    return Cache(RandomTokens([chosen.at(sizes) for chosen in graph.plan.selections], seed))
