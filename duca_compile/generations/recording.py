"""How generations bend: how much of what forecasts combine changes from one full step to the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from duca_compile.generations.trajectory import Cache


@dataclass
class Recording:
    """`changes`: of each trajectory, by graph, one number on the device for each full step after its first."""

    changes: dict[Cache, list[Tensor]] = field(default_factory=dict)

    def note(self, cache: Cache) -> None:
        """A full step has filled the cache."""
        pairs = [kept.values[:2] for kept in cache.kept.values() if len(kept.values) > 1]
        steps = self.changes.setdefault(cache, [])
        if pairs:
            moved = torch.stack([(now - before).float().norm() for now, before in pairs])
            steps.append(moved.norm() / torch.stack([now.float().norm() for now, _ in pairs]).norm())

    def mean(self) -> list[float]:
        """Over the longest of the trajectories."""
        longest = max(map(len, self.changes.values()), default=0)
        if not longest:
            return []
        found = torch.stack([torch.stack(steps) for steps in self.changes.values() if len(steps) == longest])
        return [float(change) for change in found.double().mean(0)]


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


def note(cache: Cache) -> None:
    for each in _active:
        each.note(cache)
