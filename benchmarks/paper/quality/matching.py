"""All methods at the costs that are compared: each with the setting whose FLOPs come nearest.

What methods that look at the images decide is foretold from generations with all steps computed, of other noise.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import duca_compile
from duca_compile.methods import name_of
from duca_compile.methods.base import FULL, Method, Place
from duca_compile.methods.delta_dit import DeltaDiT
from duca_compile.methods.duca import DuCa
from duca_compile.methods.first_block import FirstBlock
from duca_compile.methods.fora import FORA
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.magcache import MagCache
from duca_compile.methods.pab import PAB
from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.methods.teacache import TeaCache
from duca_compile.methods.toca import ToCa
from paper.quality.generate import Bench, generated
from paper.quality.settings import Setting
from sampling import initial_noise

COSTS = (2.0, 3.0, 5.0)
"""Times fewer FLOPs."""
NEAR = math.log(1.2)
"""How far a method may be from a cost and still stand beside it."""
OTHER_SEED, FEW = 77, 4
CYCLES = range(2, 16)
THRESHOLDS = [0.005 * 1.15**power for power in range(60)]


@dataclass(frozen=True)
class Recorded:
    """Of uncached generations. `moves`: how far the first block's input moved in each step; `first`: what that block
    added, `[steps, ...]`; `sizes`: the mean norm of what all blocks added to a token."""

    moves: Sequence[float]
    first: Tensor
    sizes: Sequence[float]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Of MagCache."""
        return (1.0, *(later / earlier for earlier, later in itertools.pairwise(self.sizes)))

    def distance(self, method: Method, step: int, full: int) -> float | None:
        """As the probe of the method would tell it."""
        if not step or method.probe is None:
            return None
        return far(self.first[step], self.first[full]) if method.probe.since_full else self.moves[step]


def far(now: Tensor, before: Tensor) -> float:
    return float((now - before).abs().mean() / before.abs().mean())


def record(bench: Bench) -> Recorded:
    blocks = bench.model.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    inputs, streams, ends = list[Tensor](), list[tuple[Tensor, Tensor]](), list[Tensor]()
    hooks = [
        blocks[0].get_submodule("attn").register_forward_pre_hook(lambda _, given: inputs.append(given[0])),
        blocks[0].register_forward_hook(lambda _, given, found: streams.append((given[0], found))),
        blocks[-1].register_forward_hook(lambda _, given, found: ends.append(found)),
    ]
    generated(bench.model, initial_noise(FEW, OTHER_SEED), torch.arange(FEW), bench.steps)
    for hook in hooks:
        hook.remove()
    moves = [0.0, *(far(now, before) for before, now in itertools.pairwise(inputs))]
    first = torch.stack([after - before for before, after in streams])
    sizes = [float((end - start).norm(dim=-1).mean()) for (start, _), end in zip(streams, ends, strict=True)]
    return Recorded(moves, first, sizes)


def sequence(method: Method, steps: int, known: Recorded) -> list[str]:
    """The recipes of a generation, if it is like those that were recorded."""
    clock, full, names = method.start(), 0, list[str]()
    for step in range(steps):
        seen = known.distance(method, step, full)
        names.append(clock.next(Place(step, step - full, step / steps, full / steps, distance=seen)))
        full = step if names[-1] == FULL else full
    return names


def families(known: Recorded) -> Iterator[tuple[str, list[Method]]]:
    """Each method with the settings that it is chosen from."""
    whole = (0.0, 1.0)
    by_cycle: Mapping[str, Callable[[int], Method]] = {
        "duca": DuCa,
        "toca": ToCa,
        "fora": FORA,
        "taylorseer": TaylorSeer,
        "forecast-stack": ForecastStack,
        "forecast-stack, dense ends": lambda cycle: ForecastStack(cycle, schedule="dense-ends"),
        "delta-dit": DeltaDiT,
        "pab": lambda cycle: PAB(cycle, 1, 1, window=whole),
    }
    yield from ((name, [kind(cycle) for cycle in CYCLES]) for name, kind in by_cycle.items())
    yield "teacache", [TeaCache(each) for each in THRESHOLDS]
    yield "first-block", [FirstBlock(each) for each in THRESHOLDS]
    yield (
        "magcache",
        [
            MagCache(known.ratios, each, longest, retention)
            for longest, retention in ((5, 0.2), (8, 0.1))
            for each in THRESHOLDS
        ],
    )


@functools.cache
def settings(bench: Bench) -> list[tuple[float, Setting]]:
    """The cost that each stands beside, and the setting."""
    known, found = record(bench), [(cost, Setting("fewer steps", fewer=cost)) for cost in COSTS]
    for name, methods in families(known):
        costs = speedups(bench, methods, known)
        for at in COSTS:
            off, best = min(((abs(math.log(cost / at)), method) for method, cost in costs), key=lambda each: each[0])
            if off <= NEAR or (at == COSTS[0] and max(cost for _, cost in costs) < at):
                found.append((at, Setting(name, best)))
    return sorted(found, key=lambda each: each[0])


def speedups(bench: Bench, methods: Sequence[Method], known: Recorded) -> list[tuple[Method, float]]:
    """Recipes cost the same whatever the cycle or the threshold."""
    (graph,) = duca_compile.explain(bench.model, *bench.example, duca_options={"method": methods[-1]}).graphs
    assert graph.refusal is None, f"{name_of(methods[-1])}: {graph.refusal}"
    flops, whole = graph.flops, graph.flops[FULL] * bench.steps
    return [(each, whole / sum(flops[name] for name in sequence(each, bench.steps, known))) for each in methods]
