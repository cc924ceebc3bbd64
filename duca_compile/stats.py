"""What a compiled model has done so far, and how to make it forget."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from duca_compile import registry
from duca_compile.modes import Mode


@dataclass(frozen=True)
class Stats:
    """`steps` per mode; `resets` by reason; `bytes` held in caches now; `compile_seconds` per mode over all graphs."""

    graphs: int
    steps: dict[Mode, int]
    resets: dict[str, int]
    trajectories: int
    bytes: int
    compile_seconds: dict[Mode, float]


def stats(model: nn.Module) -> Stats:
    """Counts over every graph that backend "duca" has run with the weights of `model`, compiled or original.

    Models of one class can share a graph; its counts are then those of all of them.
    """
    found = registry.dispatchers(model)
    steps: Counter[Mode] = Counter()
    resets: Counter[str] = Counter()
    seconds = dict.fromkeys(Mode, 0.0)
    for dispatcher in found:
        steps.update(dispatcher.steps)
        resets.update(dispatcher.tracker.resets)
        for mode, graph in dispatcher.graphs.items():
            seconds[mode] += graph.compile_seconds
    return Stats(
        graphs=len(found),
        steps={mode: steps[mode] for mode in Mode},
        resets=dict(resets),
        trajectories=sum(len(dispatcher.tracker.live) for dispatcher in found),
        bytes=sum(dispatcher.tracker.bytes for dispatcher in found),
        compile_seconds=seconds,
    )


def reset(model: nn.Module) -> None:
    """Drops all caches of `model`: the next call of each trajectory is FULL."""
    for dispatcher in registry.dispatchers(model):
        dispatcher.reset()
