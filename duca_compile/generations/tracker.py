"""Which call belongs to which generation, and which step of it: caches may be reused only within one trajectory.

A call belongs to a trajectory of the same session, or of the same thread outside of all, with the same sizes, over the
same weights, under the same conditioning. Several generations may share all of that. So the call goes on from the only
trajectory that its timestep and its latents follow from (`continuity.py`): where none does, a new one begins; where
several do, nobody knows, and a new one begins too. Each generation is remembered while another one runs.

Conditioning is the same if its tensors are the same objects with the same content. A pipeline may make it anew for
every call. Then the objects of the last step are dead, and all else goes on: once this could also be a new start under
the same prompt, so the trajectory starts over; from then on, the same tensors may be new ones again. And some
arguments hold something else at every step (`moving.py`).

In doubt a trajectory starts over, and its first step is FULL.
"""

import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from duca_compile import torch_private
from duca_compile.generations import advice, long_steps, moving, progress, sessions
from duca_compile.generations.budget import Budget
from duca_compile.generations.call import Call
from duca_compile.generations.continuity import AGAIN, CONFLICT, REMEMBERED, START, TURNED, Doubt, Moment, Pace
from duca_compile.generations.diffusers_context import Context
from duca_compile.generations.given import Given
from duca_compile.generations.identity import Identity, Probes, state
from duca_compile.generations.observe_call import Observer
from duca_compile.generations.tally import FIRST, OVER, Choice, Tally
from duca_compile.generations.trajectory import Miss, Trajectory
from duca_compile.methods.base import FULL, Method
from duca_compile.refusal import COUNT_THEM, Refused, note_once, warn_once

KNOWN = 64
"""Trajectories remembered at once, most of them without caches; the least recently used goes first."""
REMEMBERED_GENERATIONS = 1024
"""Of so many, how they ran is known."""
ALIKE = 8
"""Of them, those over the very same conditioning, until one of them is seen to go on after another one has begun."""
AMBIGUOUS = "several generations could go on so"
_thread = threading.local()
_NO_NAMES: Mapping[str, str] = {}
Key = tuple[Hashable, Hashable, Hashable]
"""Owner, context and sizes."""


class Visit(NamedTuple):
    """A call placed in its trajectory. `repeated`: it was called in this step already. `assumed`: the conditioning, by
    its place, that was taken for unchanged without reading it."""

    trajectory: Trajectory
    repeated: bool = False
    assumed: Mapping[int, Tensor] = {}


class Tracker:
    """Places each call; `resets` counts why trajectories started over, `ran` how the steps ran, `held` those of them
    whose forecasts took the last value as it is."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.resets: Counter[str] = Counter()
        self.ran = Tally()
        self.held = 0
        self._generations: deque[Tally] = deque(maxlen=REMEMBERED_GENERATIONS)
        self._live: dict[Key, list[Trajectory]] = {}
        self._observer = Observer()
        self._probes = Probes()
        self._moving: dict[Hashable, frozenset[int]] = {}
        self._in_turns = False
        self._now = Moment()

    def visit(self, given: Given, context: Context | None = None) -> Visit | None:
        """None where nothing tells steps apart: neither a timestep, nor the session's or the pipeline's count."""
        session = sessions.current()
        steps = session.steps if session else None
        index = context.index if context else None
        if not given.timesteps and steps is None and index is None:
            return None
        seen = self._observer.read(given, index, steps is not None)
        self._now = seen.moment
        name = context and (context.name, context.total)
        total = steps or (context.total if context else None)
        key = (session.key if session else _this_thread(), name, given.sizes)
        content = (*seen.content, *given.numbers)
        now = state(given.weights, self._probes)
        names, outputs = tuple(given.names), self._observer.outputs
        call = Call(seen.moment, now, given.conditioning, content, outputs, steps, names, total)
        with torch_private.unseen():
            visit = self._place(key, call)
        missed = visit.trajectory.missed
        if missed is not None and missed.times >= advice.PATIENCE:
            warn_once(self, advice.on(missed, names))
        return visit._replace(assumed=seen.assumed)

    def produced(self, results: Sequence[Any], latents: Sequence[Tensor], moment: Moment | None = None) -> None:
        """A call over `latents`, by default the last one placed, gave `results`."""
        if results and latents and isinstance(results[0], Tensor):
            self._observer.produced(results[0], latents[0], moment or self._now)

    def begin(
        self,
        visit: Visit,
        method: Method,
        size: int,
        same: Mapping[str, str] = _NO_NAMES,
        distance: float | None = None,
    ) -> str:
        """The recipe by which the step runs that now begins, by the name that `same` has for it. `distance` is what the
        method's probe has found.

        A FULL one needs none of the trajectory's caches but what forecasts combine later, and will keep about `size`
        bytes. Where it begins the trajectory or starts it over, no forecast goes back further.
        """
        trajectory = visit.trajectory
        begins = visit.repeated or trajectory.step <= 0
        chosen = Choice(FULL) if visit.repeated else long_steps.choose(trajectory, method, self, distance)
        recipe = same.get(chosen.recipe, chosen.recipe)
        anew = AGAIN if visit.repeated else OVER if trajectory.generation.steps.total() else FIRST
        self._count(trajectory, Choice(recipe, anew if begins else chosen.why))
        if recipe == FULL:
            begins |= self._is_rewritten(visit)
            trajectory.computed()
            for cache in list(trajectory.caches.values()):
                cache.make_room(begins)
            self.budget.make_room(trajectory, size)
        elif min(trajectory.computed_at) < trajectory.drifted:
            self.held += any(each.name == recipe and each.history > 1 for each in method.recipes())
        return recipe

    def _is_rewritten(self, visit: Visit) -> bool:
        """Whether conditioning that was taken for unchanged holds something else than at the last FULL step: then the
        trajectory starts over. Of what changes at every step that says nothing."""
        trajectory, passing = visit.trajectory, visit.trajectory.varying or ()
        held = self._observer.read_again({at: given for at, given in visit.assumed.items() if at not in passing})
        before = trajectory.content
        trajectory.content = tuple([held.get(at, known) for at, known in enumerate(before)])
        if trajectory.content == before or trajectory.step <= 0:
            return False
        self.resets["other conditioning or weights"] += 1
        trajectory.step = 0
        return True

    def settle(self, trajectory: Trajectory) -> None:
        """A FULL step of `trajectory` has filled its caches."""
        needed = trajectory.bytes
        if not self.budget.settle(trajectory):
            self.resets["the caches exceed cache_budget"] += 1
            warn_once(self, Refused(f"one trajectory's caches take {needed:,} bytes, more than cache_budget; raise it"))

    def abandon(self, trajectory: Trajectory) -> None:
        """Drops a trajectory whose step failed: its caches can no longer be trusted."""
        self._drop(trajectory)
        self.resets["an exception left the step unfinished"] += 1
        self._take_back(trajectory)

    def computes(self, trajectory: Trajectory) -> None:
        """The step that has begun turns out to be FULL, on the caches of none of the steps before."""
        self._take_back(trajectory)
        self._count(trajectory, Choice(FULL, OVER))
        trajectory.step = -1

    def start_over(self, trajectory: Trajectory, method: Method, size: int) -> None:
        """The step that has begun turns out to be FULL and the first of those to come, as the processes that take it
        together had chosen differently. Its caches go, and it will keep about `size` bytes."""
        was_full = trajectory.began is not None and trajectory.began.recipe == FULL
        self._take_back(trajectory)
        self._count(trajectory, Choice(FULL, OVER))
        self.resets[advice.DISAGREED] += 1
        if self.resets[advice.DISAGREED] == advice.PATIENCE:
            note_once(self, advice.APART)
        trajectory.caches.clear()
        trajectory.step = 0
        if not was_full:
            trajectory.computed()
        trajectory.clock = method.start()
        trajectory.clock.next(progress.place(trajectory))
        self.budget.make_room(trajectory, size)

    def _count(self, trajectory: Trajectory, chosen: Choice) -> None:
        trajectory.began = chosen
        for tally in (self.ran, trajectory.generation):
            tally.add(chosen)

    def _take_back(self, trajectory: Trajectory) -> None:
        if trajectory.began is not None:
            for tally in (self.ran, trajectory.generation):
                tally.add(trajectory.began, -1)

    def clear(self) -> None:
        for trajectory in self.live:
            self._drop(trajectory)

    @property
    def live(self) -> list[Trajectory]:
        return [trajectory for each in list(self._live.values()) for trajectory in list(each)]

    @property
    def generations(self) -> list[Tally]:
        """How the last generations ran, in the order in which they began, those that still run among them."""
        return [each for each in list(self._generations) if each.steps.total() > 0]

    def _place(self, key: Key, call: Call) -> Visit:
        group = self._live.get(key, ())
        akin = [known for known in group if known.content == call.content and call.is_over(known)]
        learned = self._learned(call)
        same = [known for known in akin if not known.replaced(call.conditioning) - moving.allowed(known, learned)]
        return (
            self._go_on(key, same, call)
            or self._made_anew(key, [known for known in akin if known not in same], call)
            or self._moved_along(key, group, call)
            or Visit(self._start(key, call, group, akin))
        )

    def _go_on(self, key: Key, same: Sequence[Trajectory], call: Call) -> Visit | None:
        """The call as a step of the only trajectory over these very tensors that it follows from."""
        judged = [(known, call.judge(known)) for known in same]
        fitting = [(known, how) for known, how in judged if isinstance(how, Pace)]
        if call.steps is None:
            again = [known for known, how in judged if _is_again(how) and call.repeats(known)]
            if again:
                return self._again(again[-1])
            fitting = [(known, how) for known, how in fitting if how.likeness.follows] or fitting
        if len(fitting) == 1:
            return self._advance(*fitting[0], call)
        if fitting:
            return Visit(self._confused(key, call, fitting))
        return None

    def _confused(self, key: Key, call: Call, fitting: Sequence[tuple[Trajectory, Pace]]) -> Trajectory:
        """Which of these the call belongs to cannot be told: none may be gone on from any longer."""
        self.resets[AMBIGUOUS] += 1
        for known, _ in fitting:
            self._drop(known)
        last, how = max(fitting, key=lambda each: each[0].used)
        missed = _miss(AGAIN, [known for known, _ in fitting])
        return self._begin(key, call, (), how, last, missed=missed, generation=last.generation)

    def _made_anew(self, key: Key, akin: Sequence[Trajectory], call: Call) -> Visit | None:
        """The call as a step of the only trajectory that it can be one of, under new tensors of the same content."""
        dead = [known for known in akin if known.outlived(known.replaced(call.conditioning))]
        judged = [(known, call.judge(known)) for known in dead]
        found = [(known, how) for known, how in judged if isinstance(how, Pace) or _is_again(how)]
        if len(found) != 1:
            for known, _ in found:
                self._drop(known)
            return None
        ((known, how),) = found
        replaced = known.replaced(call.conditioning)
        if isinstance(how, Pace) and replaced <= known.remade:
            return self._advance(known, how, call, replaced)
        self._drop(known)
        self.resets["conditioning made anew"] += 1
        if isinstance(how, Doubt):
            return None
        return Visit(self._begin(key, call, (), how, known, replaced, known.missed, known.generation))

    def _learned(self, call: Call) -> frozenset[int]:
        """Which arguments of such calls are known to move."""
        return self._moving.get(call.arguments, frozenset())

    def _moved_along(self, key: Key, group: Sequence[Trajectory], call: Call) -> Visit | None:
        """The call as a step of the only trajectory that it follows from but for arguments that move with the steps."""
        learned = self._learned(call)
        found, passed = moving.candidates(group, call, learned)
        if len(found) > 1:
            return Visit(self._confused(key, call, found))
        if not found:
            return None
        ((known, how),) = found
        changed = known.changed(call.content)
        self._moving[call.arguments] = learned | changed
        for each in passed:
            self._drop(each)
        return self._advance(known, how, call, known.replaced(call.conditioning) - changed)

    def _advance(self, known: Trajectory, judged: Pace, call: Call, replaced: frozenset[int] = frozenset()) -> Visit:
        known.touch()
        if known.paused:
            known.paused, self._in_turns = False, True
        if known.evicted:
            known.evicted = False
            note_once(self, advice.CROWDED)
        changed = known.changed(call.content)
        if known.varying is None:
            known.varying = changed
        if known.since == 0:
            outputs = tuple(call.outputs(moment) for moment in known.moments)
            known.shown = outputs if len(outputs) == REMEMBERED and all(outputs) else ()
        known.move(call.moment, judged, known.step + 1)
        if replaced or known.remade or changed:
            known.remade, known.content = replaced, call.content
            known.take(call.conditioning, replaced | known.varying)
        return Visit(known)

    def _again(self, known: Trajectory) -> Visit:
        """Nothing tells which of two calls in one step the next one goes on from: that one starts over."""
        known.touch()
        self.resets[AGAIN] += known.step >= 0
        known.step = -1
        known.missed = Miss(AGAIN).after(known.missed)
        return Visit(known, repeated=True)

    def _start(self, key: Key, call: Call, group: Sequence[Trajectory], akin: Sequence[Trajectory]) -> Trajectory:
        """A trajectory that goes on from none. Of one that the call nearly went on from, it takes over what it saw."""
        learned = self._learned(call)
        replaced = {known: known.replaced(call.conditioning) - moving.allowed(known, learned) for known in akin}
        same = [known for known in akin if not replaced[known]]
        near = [known for known in akin if known.outlived(replaced[known])]
        doubts = [(known, how) for known in near if isinstance(how := call.judge(known), Doubt)]
        if not doubts:
            self.resets["other conditioning or weights"] += bool(self._live)
            return self._begin_beside(key, call, group)
        known, doubt = max(doubts, key=lambda each: (each[1].reason == TURNED, each[0].used))
        self.resets[doubt.reason] += 1
        if doubt.reason == CONFLICT:
            warn_once(self, Refused(f"{CONFLICT}; such steps are computed. {COUNT_THEM}"))
        if call.steps is not None:
            self._drop(known)
        missed = _miss(doubt.reason, [known]) if doubt.reason in (TURNED, AGAIN) else None
        remade = replaced[known] if doubt.reason == TURNED else frozenset()
        last = max(doubts, key=lambda each: each[0].used)
        generation = last[0].generation if call.is_of_one_generation_with(*last) else None
        return self._begin(key, call, same, doubt.pace, known, remade, missed, generation)

    def _begin_beside(self, key: Key, call: Call, group: Sequence[Trajectory]) -> Trajectory:
        """A trajectory that may go on from one under other arguments, or from one of another thread."""
        near = moving.nearest(group, call)
        if near is not None:
            missed = Miss(advice.CHANGED, near.changed).after(near.known.missed)
            goes_on = near.pace.likeness.follows or call.has_moved_on_from(near.known)
            generation = near.known.generation if goes_on else None
            started = self._begin(key, call, (), near.pace, near.known, missed=missed, generation=generation)
            started.moved = near.changed if near.pace.likeness.follows else frozenset()
            return started
        over_others = self._over_other_weights(group, call)
        if over_others is not None:
            known, how = over_others
            missed = Miss(advice.WEIGHTS).after(known.missed)
            return self._begin(key, call, (), how, known, missed=missed, generation=known.generation)
        return self._begin(key, call, (), missed=self._under_other_objects(group, call) or self._elsewhere(key, call))

    def _over_other_weights(self, group: Sequence[Trajectory], call: Call) -> tuple[Trajectory, Pace] | None:
        """The last used trajectory that the call is seen to go on from, but for the weights, and how."""
        akin = [known for known in group if known.content == call.content and not call.is_over(known)]
        judged = [(known, call.judge(known)) for known in akin]
        seen = [(known, how) for known, how in judged if isinstance(how, Pace) and how.likeness.follows]
        return max(seen, key=lambda each: each[0].used, default=None)

    def _under_other_objects(self, group: Sequence[Trajectory], call: Call) -> Miss | None:
        """Whether the call would go on from a trajectory whose equal conditioning still lives."""
        for known in group:
            if known.content == call.content and call.is_over(known) and _is_seen(call.judge(known)):
                return _miss(advice.DOUBLED, [known])
        return None

    def _elsewhere(self, key: Key, call: Call) -> Miss | None:
        """Whether the call would go on from a trajectory of another thread."""
        for other, each in list(self._live.items()):
            if other == key or _but_owner(other) != _but_owner(key):
                continue
            for known in each:
                if known.content == call.content and call.is_over(known) and _is_seen(call.judge(known)):
                    return _miss(advice.THREADS, [known])
        return None

    def _begin(
        self,
        key: Key,
        call: Call,
        same: Sequence[Trajectory],
        judged: Pace = START,
        past: Trajectory | None = None,
        remade: frozenset[int] = frozenset(),
        missed: Miss | None = None,
        generation: Tally | None = None,
    ) -> Trajectory:
        """A step of the `generation`, or of a new one.

        Those over the `same` conditioning give up their caches, unless generations are known to be served in turns.

        Where the call may go on from the `past` one, the next call is compared with the moments of both.
        """
        weights = Identity(call.weights)
        started = Trajectory((call.moment,), weights, call.content, judged, remade, missed=missed, total=call.total)
        if generation is None:
            self._generations.append(started.generation)
        else:
            started.generation = generation
        if past is not None and judged != START:
            started.moments, started.begun = (*past.moments, call.moment)[-REMEMBERED:], past.begun
        learned = self._learned(call)
        started.take(call.conditioning, remade | learned | (missed.arguments if missed else frozenset()))
        started.touch()
        weights.watch(_dropping(started, self))
        self._pause(same)
        self._live.setdefault(key, []).append(started)
        session = sessions.current()
        if session is not None:
            session.adopt(started)
        live = self.live
        if len(live) > KNOWN:
            self._drop(min(live, key=lambda trajectory: trajectory.used))
        return started

    def _pause(self, same: Sequence[Trajectory]) -> None:
        if self._in_turns:
            return
        for known in same:
            known.paused |= bool(known.caches)
            known.forget()
        for known in sorted(same, key=lambda trajectory: trajectory.used)[: 1 - ALIKE]:
            self._drop(known)

    def _drop(self, trajectory: Trajectory) -> None:
        trajectory.forget()
        for key, each in list(self._live.items()):
            if trajectory in each:
                each.remove(trajectory)
            if not each:
                self._live.pop(key, None)


def _is_seen(how: Pace | Doubt) -> bool:
    """Whether the latents are seen to go on."""
    return isinstance(how, Pace) and how.likeness.follows


def _is_again(how: Pace | Doubt) -> bool:
    return isinstance(how, Doubt) and how.reason == AGAIN


def _miss(reason: str, known: Sequence[Trajectory]) -> Miss:
    """In a row with the longest of those that the call nearly followed."""
    return max((Miss(reason).after(each.missed) for each in known), key=lambda miss: miss.times)


def _but_owner(key: Key) -> Key:
    return (None, *key[1:])


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
