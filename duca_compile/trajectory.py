"""Which call belongs to which generation, and which step of it: caches may be reused only within one trajectory.

The step is read from the timestep input: a move on in the direction of travel is the next step; the same value again is
another call in the same step, and as nothing tells which of the two the next step goes on from, that one computes all;
anything else starts a new trajectory. A call under other conditioning (another tensor object, or the same one written
to), other weights (written to, swapped, another model's), in another session or thread belongs to another trajectory.
In doubt a new trajectory starts, and its first step is FULL.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from duca_compile import sessions
from duca_compile.identity import Identity, version
from duca_compile.modes import Mode
from duca_compile.results import Layout, memory
from duca_compile.selection import RandomTokens

KEPT = 4
"""Trajectories remembered at once; the least recently used goes first."""
LEAP = 3.0
"""A step this many times longer than the one before it is taken for a jump, not for travel."""
UPWARD = "timestep moved up"
AGAIN = "called again at the same timestep"


@dataclass
class Cache:
    """What one graph keeps between the steps of a trajectory."""

    selector: RandomTokens
    features: list[Tensor] = field(default_factory=list)
    frontier: list[Tensor] = field(default_factory=list)
    layout: Layout = ()
    """How the last full step laid out its results."""
    memory: frozenset[int] = frozenset()
    """Where features and frontier lie."""
    full_step: int = 0
    """Of the graphs of a split forward pass: the full step that filled it."""

    def keep(self, features: list[Tensor], frontier: list[Tensor]) -> None:
        self.features, self.frontier = features, frontier
        self.memory = memory([*features, *frontier])

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.features, *self.frontier))


@dataclass
class Trajectory:
    """One generation under one conditioning."""

    timestep: tuple[float, ...]
    fixed: Identity
    """Conditioning and weights."""
    rising: bool = False
    """Whether this trajectory began because the timestep moved up: a second move up makes that its direction."""
    step: int = 0
    """-1 where the next step has to start over, on the caches of none of its calls."""
    gap: float = 0.0
    """How far the last step moved; 0 before the second step."""
    caches: dict[Hashable, Cache] = field(default_factory=dict)
    """By graph, and by what else tells its runs within one forward pass apart."""
    parts: dict[Hashable, Identity] = field(default_factory=dict)
    """Of a split forward pass: the weights of the graphs met so far."""
    full_steps: int = 0
    """Of a split forward pass: how often it was computed."""

    @property
    def bytes(self) -> int:
        return sum(cache.bytes for cache in list(self.caches.values()))


@dataclass(frozen=True)
class Visit:
    """A call placed in its trajectory. `repeated`: the timestep was seen in this step already."""

    trajectory: Trajectory
    repeated: bool


class Tracker:
    """Places each call; `resets` counts why trajectories ended, `steps` in which modes the steps ran."""

    def __init__(self) -> None:
        self.live: OrderedDict[Hashable, Trajectory] = OrderedDict()
        self.resets: Counter[str] = Counter()
        self.steps: Counter[Mode] = Counter()

    def visit(
        self,
        timesteps: Sequence[Tensor],
        conditioning: Sequence[Tensor],
        weights: Sequence[Tensor],
        values: tuple[Hashable, ...],
    ) -> Visit:
        """`values` are the call's sizes, numbers and whatever else is known by its value.

        Conditioning that keeps no version (inference mode) could have been written to: such calls share nothing.
        """
        now = tuple(float(value) for given in timesteps for value in given.detach().flatten().tolist())
        fixed = Identity([*conditioning, *weights])
        key = (threading.get_ident(), sessions.current(), values, fixed.key)
        known = self.live.get(key)
        if any(version(tensor) is None for tensor in conditioning):
            return Visit(Trajectory(now, fixed), False)
        if known is None or not fixed.is_same(known.fixed):
            return Visit(self._start(key, now, fixed, "other conditioning or weights"), False)
        self.live.move_to_end(key)
        if known.timestep == now:
            if known.step >= 0:
                self.resets[AGAIN] += 1
            known.step = -1
            return Visit(known, True)
        gap = _common_gap(known.timestep, now)
        reason = _interruption(known, gap)
        if reason is not None or gap is None:
            started = self._start(key, now, fixed, reason or "timesteps of the batch move apart")
            started.rising = reason == UPWARD
            return Visit(started, False)
        known.timestep, known.gap, known.step = now, gap, known.step + 1
        return Visit(known, False)

    def abandon(self, trajectory: Trajectory, mode: Mode) -> None:
        """Drops a trajectory whose step in `mode` failed: its caches can no longer be trusted."""
        for key, held in list(self.live.items()):
            if held is trajectory:
                del self.live[key]
        self.resets["an exception left the step unfinished"] += 1
        self.steps[mode] -= 1

    def clear(self) -> None:
        self.live.clear()

    @property
    def bytes(self) -> int:
        return sum(trajectory.bytes for trajectory in list(self.live.values()))

    def _start(self, key: Hashable, now: tuple[float, ...], fixed: Identity, reason: str) -> Trajectory:
        if self.live:
            self.resets[reason] += 1
        live = self.live

        def died(_: object) -> None:
            live.pop(key, None)

        fixed.watch(died)
        started = self.live[key] = Trajectory(now, fixed)
        while len(self.live) > KEPT:
            self.live.popitem(last=False)
        return started


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
    if known.gap == 0:
        return None if gap < 0 or known.rising else UPWARD
    if gap * known.gap < 0:
        return "timestep jumped back"
    return "timestep leapt ahead" if abs(gap) > LEAP * abs(known.gap) else None
