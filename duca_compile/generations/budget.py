"""How much memory the caches of one compiled model may take, and which go first."""

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duca_compile.generations.trajectory import Trajectory

KEPT = 8
"""Trajectories that keep caches at once at most, whatever the limit in bytes."""


class Budget:
    """Of all graphs that one `torch.compile` makes. `limit` is in bytes; `peak` the most that was held at once."""

    def __init__(self, limit: int | None) -> None:
        self.peak = 0
        self._limit = limit
        self._known: weakref.WeakSet[Trajectory] = weakref.WeakSet()
        _all.add(self)

    def make_room(self, trajectory: "Trajectory", size: int) -> int:
        """Before a full step of `trajectory`, which will then hold `size` bytes: the least recently used go.

        Returns how many bytes are held then.
        """
        self._known.add(trajectory)
        others = [other for other in list(self._known) if other is not trajectory and other.caches]
        others.sort(key=lambda other: other.used)
        held = size + sum([other.bytes for other in others])
        while others and (len(others) >= KEPT or self._exceeded(held)):
            first = others.pop(0)
            held -= first.bytes
            first.evicted = True
            first.forget()
        return held

    def settle(self, trajectory: "Trajectory") -> bool:
        """After a full step of `trajectory`; False where its caches alone are too large, and were dropped."""
        size = trajectory.bytes
        held = self.make_room(trajectory, size)
        if self._exceeded(size):
            trajectory.forget()
            return False
        self.peak = max(self.peak, held)
        return True

    def free(self) -> None:
        """Drops all caches."""
        for trajectory in list(self._known):
            trajectory.forget()

    def _exceeded(self, size: int) -> bool:
        return self._limit is not None and size > self._limit


_all: "weakref.WeakSet[Budget]" = weakref.WeakSet()
_budgets: "weakref.WeakKeyDictionary[object, Budget]" = weakref.WeakKeyDictionary()


def of(owner: object, limit: int | None) -> Budget:
    """The one budget of all graphs of `owner`, a `torch.compile`; one of its own where it is not known."""
    return Budget(limit) if owner is None else _budgets.setdefault(owner, Budget(limit))


def free_all() -> None:
    """Drops the caches of every compiled model of this process: memory has run out."""
    for budget in list(_all):
        budget.free()
