"""Which call belongs to which generation, and which step of it: caches may be reused only within one trajectory.

The step is read from the timestep input: the same value again is another call in the same step; a move on in the
direction of travel is the next step; anything else starts a new trajectory. A call under other conditioning (another
tensor object, or the same one written to), other weights (written to, swapped, another model's) or in another thread
belongs to another trajectory. In doubt a new trajectory starts, and its first step is FULL.
"""

import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from duca_compile.results import Layout, memory
from duca_compile.selection import RandomTokens

KEPT = 4
"""Trajectories remembered at once; the least recently used goes first."""
LEAP = 3.0
"""A step this many times longer than the one before it is taken for a jump, not for travel."""
UPWARD = "timestep moved up"

Key = tuple[object, ...]


@dataclass
class Trajectory:
    """One generation under one conditioning."""

    timestep: tuple[float, ...]
    conditioning: tuple["weakref.ref[Tensor]", ...]
    selector: RandomTokens
    rising: bool = False
    """Whether this trajectory began because the timestep moved up: a second move up makes that its direction."""
    step: int = 0
    gap: float = 0.0
    """How far the last step moved; 0 before the second step."""
    caches: list[Tensor] = field(default_factory=list)
    frontier: list[Tensor] = field(default_factory=list)
    layout: Layout = ()
    """How the last full step laid out its results."""
    memory: frozenset[int] = frozenset()
    """Where caches and frontier lie."""

    def keep(self, caches: list[Tensor], frontier: list[Tensor]) -> None:
        self.caches, self.frontier = caches, frontier
        self.memory = memory([*caches, *frontier])

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.caches, *self.frontier))


@dataclass(frozen=True)
class Visit:
    """A call placed in its trajectory. `repeated`: the timestep was seen in this step already."""

    trajectory: Trajectory
    repeated: bool


class Tracker:
    """Places each call; `resets` counts why trajectories ended."""

    def __init__(self, new_selector: Callable[[tuple[float, ...]], RandomTokens]) -> None:
        self.live: OrderedDict[Key, Trajectory] = OrderedDict()
        self.resets: Counter[str] = Counter()
        self._new_selector = new_selector

    def visit(
        self,
        timesteps: Sequence[Tensor],
        conditioning: Sequence[Tensor],
        weights: Sequence[Tensor],
        numbers: tuple[float, ...],
    ) -> Visit:
        """`numbers` are the call's sizes and scalars."""
        now = tuple(float(value) for given in timesteps for value in given.detach().flatten().tolist())
        key = _key(conditioning, weights, numbers)
        start = partial(self._start, key, now, conditioning, numbers)
        known = self.live.get(key) if key is not None else None
        if known is None or key is None:
            return Visit(start("other conditioning or weights"), False)
        self.live.move_to_end(key)
        if any(ref() is not held for ref, held in zip(known.conditioning, conditioning, strict=True)):
            return Visit(start("other conditioning or weights"), False)
        if known.timestep == now:
            return Visit(known, True)
        gap = _common_gap(known.timestep, now)
        reason = _interruption(known, gap)
        if reason is not None or gap is None:
            started = start(reason or "timesteps of the batch move apart")
            started.rising = reason == UPWARD
            return Visit(started, False)
        known.timestep, known.gap, known.step = now, gap, known.step + 1
        return Visit(known, False)

    def forget(self, trajectory: Trajectory, reason: str) -> None:
        """Drops a trajectory whose caches can no longer be trusted."""
        for key, held in list(self.live.items()):
            if held is trajectory:
                del self.live[key]
        self.resets[reason] += 1

    def clear(self) -> None:
        self.live.clear()

    @property
    def bytes(self) -> int:
        return sum(trajectory.bytes for trajectory in list(self.live.values()))

    def _start(
        self,
        key: Key | None,
        now: tuple[float, ...],
        conditioning: Sequence[Tensor],
        numbers: tuple[float, ...],
        reason: str,
    ) -> Trajectory:
        if self.live:
            self.resets[reason] += 1
        live = self.live

        def dropped(_: object) -> None:
            if key is not None:
                live.pop(key, None)

        refs = tuple(weakref.ref(tensor, dropped) for tensor in conditioning)
        started = Trajectory(now, refs, self._new_selector(numbers))
        if key is not None:
            self.live[key] = started
            while len(self.live) > KEPT:
                self.live.popitem(last=False)
        return started


def _key(conditioning: Sequence[Tensor], weights: Sequence[Tensor], numbers: tuple[float, ...]) -> Key | None:
    """Thread, numbers, memory and version of the weights, object and version of every conditioning tensor.

    None where a conditioning tensor keeps no version (inference mode): it could have been written to.
    """
    held = hash(tuple((weight.data_ptr(), _version(weight)) for weight in weights))
    parts: list[object] = [threading.get_ident(), numbers, held]
    for tensor in conditioning:
        version = _version(tensor)
        if version is None:
            return None
        parts += [id(tensor), version]
    return tuple(parts)


def _version(tensor: Tensor) -> int | None:
    if isinstance(tensor, torch.Tensor) and tensor.is_inference():
        return None
    return tensor._version


def _common_gap(before: tuple[float, ...], after: tuple[float, ...]) -> float | None:
    """How far the furthest timestep moved; None if some moved apart. Those of frames that are given may stay."""
    gaps = [b - a for a, b in zip(before, after, strict=True) if b != a]
    furthest = max(gaps, key=abs)
    return furthest if all(gap * furthest > 0 for gap in gaps) else None


def _interruption(known: Trajectory, gap: float | None) -> str | None:
    """Why a move from `known` by `gap` is no next step of it.

    Before a second step, the direction of travel is known only by convention: down. A model that counts up is
    believed from its second move on.
    """
    if gap is None:
        return None
    if known.step == 0:
        return None if gap < 0 or known.rising else UPWARD
    if gap * known.gap < 0:
        return "timestep jumped back"
    return "timestep leapt ahead" if abs(gap) > LEAP * abs(known.gap) else None
