"""What `tune` learns of generations whose every step is full: how alike any two of their steps are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from duca_compile.generations.trajectory import Cache

PICKED = 2**14
"""Elements that are looked at of each value, evenly spaced."""


class Likeness(NamedTuple):
    """Inner products of any two steps, `[steps, steps]`, float64 on the host, as shares of a step's mean square: of
    the `stream` that forecasts combine, and of the model's `output`."""

    stream: Tensor
    output: Tensor

    @property
    def steps(self) -> int:
        return len(self.stream)

    @property
    def changes(self) -> list[float]:
        """How much of the stream each step but the first changes, as a share of its length."""
        squares = self.stream.diagonal()
        moved = squares[1:] + squares[:-1] - 2 * self.stream.diagonal(1)
        return (moved.clamp_min(0) / squares[1:]).sqrt().tolist()


@dataclass
class Recording:
    """`seen`: of each trajectory, by graph, what was picked of stream and output at each full step, on the device."""

    seen: dict[Cache, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def note(self, cache: Cache, results: Sequence[Any]) -> None:
        """A full step has filled the cache and given these results."""
        combined = [kept.values[0] for kept in cache.kept.values() if kept.history > 1]
        output = next((each for each in results if isinstance(each, Tensor) and each.is_floating_point()), None)
        if combined and output is not None:
            stream = torch.cat([_picked(value, PICKED // len(combined)) for value in combined])
            self.seen.setdefault(cache, []).append((stream, _picked(output, PICKED)))

    def mean(self) -> Likeness | None:
        """Over the longest of the trajectories; None where nothing was combined at two steps of one."""
        longest = max(map(len, self.seen.values()), default=0)
        if longest < 2:
            return None
        chosen = [steps for steps in self.seen.values() if len(steps) == longest]
        both = (torch.stack([_products([step[which] for step in steps]) for steps in chosen]) for which in (0, 1))
        return Likeness(*(each.mean(0) for each in both))


def _picked(value: Tensor, count: int) -> Tensor:
    flat = value.detach().flatten()
    return flat[:: max(1, len(flat) // max(1, count))][:count].float()


def _products(steps: Sequence[Tensor]) -> Tensor:
    together = torch.stack(list(steps)).double().cpu()
    found = together @ together.T
    return found / found.diagonal().mean().clamp_min(1e-30)


_active: list[Recording] = []


@contextmanager
def recording() -> Iterator[Recording]:
    """What all compiled models of this process do within the block."""
    found = Recording()
    _active.append(found)
    try:
        yield found
    finally:
        _active.remove(found)


def note(cache: Cache, results: Sequence[Any]) -> None:
    for each in _active:
        each.note(cache, results)
