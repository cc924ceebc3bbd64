"""Which call belongs to which generation, and which step of it: caches may be reused only within one trajectory.

A call belongs to a trajectory of the same session, or of the same thread outside of all, with the same sizes and
numbers, over the same weights, under conditioning of the same content. It is the next step of one whose conditioning
tensors are the same objects, if timestep and latents go on from its last step (`continuity.py`).

A pipeline may make its conditioning anew for every call. Then the objects of the last step are dead, and all else goes
on: once this could also be a new start under the same prompt, so the trajectory starts over; from then on, the same
tensors may be new ones again.

In doubt a trajectory starts over, and its first step is FULL.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from duca_compile import sessions
from duca_compile.budget import Budget
from duca_compile.contexts import Context
from duca_compile.continuity import AGAIN, CONFLICT, START, Doubt, Moment, Pace, pace
from duca_compile.identity import Identity, Probes, State, state
from duca_compile.modes import Mode
from duca_compile.observation import Observer
from duca_compile.refusal import COUNT_THEM, Refused, warn_once
from duca_compile.trajectory import Trajectory

KNOWN = 64
"""Trajectories remembered at once, most of them without caches; the least recently used goes first."""
_thread = threading.local()


class Visit(NamedTuple):
    """A call placed in its trajectory. `repeated`: it was called in this step already."""

    trajectory: Trajectory
    repeated: bool = False


class _Call(NamedTuple):
    """What places a call in its trajectory. `steps`: how many a session counts, which then decides alone."""

    moment: Moment
    weights: State
    conditioning: Sequence[Tensor]
    outputs: tuple[Tensor, ...]
    steps: int | None

    def judge(self, known: Trajectory) -> Pace | Doubt:
        """How the call goes on from the trajectory's last step, or why it does not."""
        if self.steps is None:
            return pace(known.moment, known.pace, self.moment, self.outputs)
        return known.pace if known.step + 1 < self.steps else Doubt("the session's steps are done")


class Tracker:
    """Places each call; `resets` counts why trajectories started over, `steps` in which modes the steps ran."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.resets: Counter[str] = Counter()
        self.steps: Counter[Mode] = Counter()
        self._live: dict[Hashable, list[Trajectory]] = {}
        self._observer = Observer()
        self._probes = Probes()

    def visit(
        self,
        timesteps: Sequence[Tensor],
        latents: Sequence[Tensor],
        conditioning: Sequence[Tensor],
        weights: Sequence[Tensor],
        values: tuple[Hashable, ...],
        context: Context | None = None,
    ) -> Visit | None:
        """`values` are the call's sizes, numbers and whatever else is known by its value.

        None where nothing tells steps apart: neither a timestep, nor the session's or the pipeline's count.
        """
        session = sessions.current()
        steps = session.steps if session else None
        if not timesteps and steps is None and (context is None or context.index is None):
            return None
        seen = self._observer.read(timesteps, latents, conditioning)
        name = context and (context.name, context.total)
        owner = session.key if session else _this_thread()
        key = (owner, name, values, seen.content)
        now = Moment(seen.timesteps, seen.latents, context.index if context else None)
        call = _Call(now, state(weights, self._probes), conditioning, seen.outputs, steps)
        akin = [known for known in self._live.get(key, ()) if known.weights.is_of(call.weights)]
        for known in akin:
            if not known.replaced(conditioning):
                return self._go_on(key, known, call)
        return self._made_anew(key, akin, call) or Visit(self._start(key, call))

    def produced(self, results: Sequence[Any], latents: Sequence[Tensor]) -> None:
        """A call over `latents` gave `results`."""
        if results and latents and isinstance(results[0], Tensor):
            self._observer.produced(results[0], latents[0])

    def begin(self, trajectory: Trajectory, mode: Mode, size: int) -> None:
        """A step of `trajectory` begins. A FULL one needs none of its caches and will keep about `size` bytes."""
        self.steps[mode] += 1
        if mode is Mode.FULL:
            for cache in list(trajectory.caches.values()):
                cache.empty()
            self.budget.make_room(trajectory, size)

    def settle(self, trajectory: Trajectory) -> None:
        """A FULL step of `trajectory` has filled its caches."""
        needed = trajectory.bytes
        if not self.budget.settle(trajectory):
            self.resets["the caches exceed cache_budget"] += 1
            warn_once(self, Refused(f"one trajectory's caches take {needed:,} bytes, more than cache_budget; raise it"))

    def abandon(self, trajectory: Trajectory, mode: Mode) -> None:
        """Drops a trajectory whose step in `mode` failed: its caches can no longer be trusted."""
        self._drop(trajectory)
        self.resets["an exception left the step unfinished"] += 1
        self.steps[mode] -= 1

    def clear(self) -> None:
        for trajectory in self.live:
            self._drop(trajectory)

    @property
    def live(self) -> list[Trajectory]:
        return [trajectory for each in list(self._live.values()) for trajectory in list(each)]

    def _go_on(self, key: Hashable, known: Trajectory, call: _Call) -> Visit:
        judged = call.judge(known)
        if isinstance(judged, Pace):
            return self._advance(known, call, judged, frozenset())
        if judged.reason == AGAIN:
            return self._again(known)
        if judged.reason == CONFLICT:
            warn_once(self, Refused(f"{CONFLICT}; such steps are computed. {COUNT_THEM}"))
        self._drop(known)
        self.resets[judged.reason] += 1
        return Visit(self._start(key, call, judged.pace))

    def _made_anew(self, key: Hashable, akin: Sequence[Trajectory], call: _Call) -> Visit | None:
        """The call as a step of the only trajectory that it can be one of, under new tensors of the same content."""
        dead = [known for known in akin if known.outlived(known.replaced(call.conditioning))]
        judged = [(known, call.judge(known)) for known in dead]
        found = [(known, how) for known, how in judged if isinstance(how, Pace) or how.reason == AGAIN]
        if len(found) != 1:
            self.resets["other conditioning or weights"] += bool(self._live)
            for known, _ in found:
                self._drop(known)
            return None
        ((known, how),) = found
        replaced = known.replaced(call.conditioning)
        if isinstance(how, Pace) and replaced <= known.remade:
            return self._advance(known, call, how, replaced)
        self._drop(known)
        self.resets["conditioning made anew"] += 1
        if isinstance(how, Doubt):
            return None
        return Visit(self._start(key, call, how, replaced))

    def _advance(self, known: Trajectory, call: _Call, judged: Pace, replaced: frozenset[int]) -> Visit:
        known.touch()
        known.moment, known.pace, known.step = call.moment, judged, known.step + 1
        if replaced or known.remade:
            known.remade = replaced
            known.take(call.conditioning)
        return Visit(known)

    def _again(self, known: Trajectory) -> Visit:
        """Nothing tells which of two calls in one step the next one goes on from: that one starts over."""
        known.touch()
        self.resets[AGAIN] += known.step >= 0
        known.step = -1
        return Visit(known, repeated=True)

    def _start(
        self,
        key: Hashable,
        call: _Call,
        judged: Pace = START,
        remade: frozenset[int] = frozenset(),
    ) -> Trajectory:
        weights = Identity(call.weights)
        started = Trajectory(call.moment, weights, judged, remade)
        started.take(call.conditioning)
        started.touch()
        weights.watch(_dropping(started, self))
        self._live.setdefault(key, []).append(started)
        session = sessions.current()
        if session is not None:
            session.trajectories.add(started)
        live = self.live
        if len(live) > KNOWN:
            self._drop(min(live, key=lambda trajectory: trajectory.used))
        return started

    def _drop(self, trajectory: Trajectory) -> None:
        trajectory.forget()
        for key, each in list(self._live.items()):
            if trajectory in each:
                each.remove(trajectory)
            if not each:
                self._live.pop(key, None)


def _dropping(trajectory: Trajectory, tracker: Tracker) -> Callable[[object], None]:
    """Drops the trajectory, and keeps alive neither of the two."""
    held, by = weakref.ref(trajectory), weakref.ref(tracker)

    def drop(_: object) -> None:
        dropped, owner = held(), by()
        if dropped is not None and owner is not None:
            owner._drop(dropped)

    return drop


def _this_thread() -> object:
    """One object for each thread; an ended thread's identifier is given to another one."""
    if not hasattr(_thread, "token"):
        _thread.token = object()
    return _thread.token
