"""One generation under one conditioning, and what is kept for it between its steps."""

import itertools
import sys
import weakref
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from duca_compile.generations.continuity import REMEMBERED, START, Moment, Pace
from duca_compile.generations.device_streams import Used
from duca_compile.generations.draw_tokens import RandomTokens
from duca_compile.generations.identity import Identity
from duca_compile.generations.likeness import Likeness, off_the_line
from duca_compile.generations.own_results import Layout, memory
from duca_compile.generations.tally import Choice, Tally
from duca_compile.methods.base import Clock
from duca_compile.plan.step_plan import Key, Slot

_uses = itertools.count(1)


@dataclass(frozen=True)
class Miss:
    """Why a call began a trajectory where another one might have gone on, and how many in a row did so.

    `arguments` that held something else than at the call before.
    """

    reason: str
    arguments: frozenset[int] = frozenset()
    times: int = 1

    def after(self, earlier: "Miss | None") -> "Miss":
        again = earlier is not None and earlier.reason == self.reason
        return replace(self, times=earlier.times + 1) if again and earlier else self


class Kept(NamedTuple):
    """What is kept of one slot: `values`, the last one first, each stored at one of the trajectory's `calls`; the
    addresses where they lie, and how many there may be."""

    values: tuple[Tensor, ...]
    calls: tuple[int, ...]
    memory: frozenset[int]
    history: int

    def before_another(self) -> "Kept":
        """What stays of it when another value comes."""
        values = self.values[: self.history - 1]
        return Kept(values, self.calls[: self.history - 1], memory(values), self.history)


@dataclass(eq=False)
class Cache:
    """What one graph keeps between the steps of a trajectory."""

    draws: Mapping[str, RandomTokens] = field(default_factory=dict)
    """By the recipe whose steps recompute them."""
    kept: dict[Key, Kept] = field(default_factory=dict)
    layout: Layout = ()
    """How the last full step laid out its results."""
    memory: frozenset[int] = frozenset()
    """Where all that is kept lies."""
    used: Used = field(default_factory=Used)
    probed: Tensor | None = None
    """The value that the method's probe compares with that of the next step."""
    full_step: int = 0
    """Of the graphs of a split forward pass: the full step that filled it."""

    @property
    def bytes(self) -> int:
        probed = 0 if self.probed is None else self.probed.nbytes
        return probed + sum([value.nbytes for value in self.tensors])

    @property
    def tensors(self) -> list[Tensor]:
        """All that is kept for recipes."""
        return [value for kept in self.kept.values() for value in kept.values]

    def hand_over(self, others: Sequence[Tensor] = ()) -> None:
        """To be called before a step: the current stream takes over all that is held for this one and later ones, and
        the `others` with it."""
        drawn = [tensor for tokens in self.draws.values() for tensor in tokens.drawn]
        probed = [] if self.probed is None else [self.probed]
        self.used.hand_over([*self.tensors, *probed, *drawn, *others])

    def put(self, slots: Sequence[Slot], values: Sequence[Tensor], call: int) -> None:
        """What a step at this call of the trajectory stored: of a slot with a history, the values before stay."""
        for slot, value in zip(slots, values, strict=True):
            known = self.kept.get(slot.key)
            before = _NOTHING if known is None else known.before_another()
            self._hold(slot, (value, *before.values), (call, *before.calls))
        self.used.by_current(values)

    def put_in_place(self, slots: Sequence[Slot], places: Sequence[Sequence[Tensor]], call: int) -> None:
        """The same where each value of a slot lies in memory of its own, the oldest first, in which the step moved them
        along."""
        for slot, values in zip(slots, places, strict=True):
            known = self.kept.get(slot.key)
            self._hold(slot, tuple(reversed(values)), (call, *(known.calls[: slot.history - 1] if known else ())))
        self.used.by_current([value for values in places for value in values])

    def _hold(self, slot: Slot, values: tuple[Tensor, ...], calls: tuple[int, ...]) -> None:
        self.kept[slot.key] = Kept(values, calls, memory(values), slot.history)
        self.memory = frozenset().union(*[kept.memory for kept in self.kept.values()])

    def take(self, slots: Sequence[Slot]) -> list[Tensor]:
        """What a step reads: where fewer values are known than a slot may hold, the last one again."""
        return [
            held[age] if age < len(held) else held[0]
            for slot in slots
            for held in (self.kept[slot.key].values,)
            for age in range(slot.history)
        ]

    def make_room(self, begins: bool) -> None:
        """Before a step that fills all slots: what it pushes out of them goes first, and all where it `begins`."""
        if begins:
            self.empty()
        self.kept = {key: kept.before_another() for key, kept in self.kept.items()}

    def empty(self) -> None:
        self.kept = {}
        self.layout = ()


_NOTHING = Kept((), (), frozenset(), 1)


@dataclass(eq=False)
class Trajectory:
    """`moments` are its last ones, `pace` is of its last step; `weights` those that it ran over. `content` stands for
    what each of its arguments holds: conditioning tensors, then numbers."""

    moments: tuple[Moment, ...]
    weights: Identity
    content: tuple[Hashable, ...] = ()
    pace: Pace = START
    remade: frozenset[int] = frozenset()
    """Which conditioning tensors were other objects, of the same content, than at the call before."""
    varying: frozenset[int] | None = None
    """Which arguments held something else at its second step than at its first; None before."""
    moved: frozenset[int] = frozenset()
    """Which ones did so when it began, while the latents were seen to go on."""
    missed: Miss | None = None
    """Why its last step was computed where it might have been cached."""
    paused: bool = False
    """Whether it lost its caches to another generation over the same conditioning."""
    evicted: bool = False
    """Whether it lost them because too many generations held caches, or too large ones."""
    since: int = 0
    """How many steps after the last FULL one its last step is."""
    step: int = 0
    """-1 where the next step has to start over, on the caches of none of its calls."""
    used: int = 0
    """Larger than that of all that were used before."""
    caches: dict[Hashable, Cache] = field(default_factory=dict)
    """By graph, and by what else tells its runs within one forward pass apart."""
    parts: dict[Hashable, Identity] = field(default_factory=dict)
    """Of a split forward pass: the weights of the graphs met so far."""
    full_steps: int = 0
    """Of a split forward pass: how often it was computed."""
    session: object = None
    """What the sessions of its key share; it lives as long as the trajectory."""
    noisy: int = 0
    """Steps in a row that added fresh noise."""
    computed_at: tuple[int, int] = (0, 0)
    """Which of its calls was the last FULL one, and which the one before."""
    cycle: int = 0
    """How many steps lay between its last two FULL ones."""
    shown: tuple[Sequence[Tensor], ...] = ()
    """Outputs at its last FULL step and at the two before, in order, as they were picked; none where not all were."""
    drifted: int = 0
    """The last of its calls that did not come straight from the one before: fresh noise was added in between."""
    own: int = 1
    """Of its moments, the last ones that are certain to be its own; those before may be another generation's."""
    total: int | None = None
    """How many steps its generation has, where a session or the pipeline tells it."""
    path: list[float] = field(init=False)
    """Its timestep at each of its calls, the largest of several; 0 where there is none."""
    calls: int = 1
    """Its steps so far, counted on where it starts over."""
    generation: Tally = field(default_factory=Tally)
    """How the steps of its generation ran, those before it started over among them."""
    began: Choice | None = None
    """How its last step was begun."""
    clock: Clock | None = None
    """The method's, from its first step on."""
    _given: tuple["weakref.ref[Tensor]", ...] = ()

    def __post_init__(self) -> None:
        self.begun = self.full = self.moments[-1].timesteps
        self.path = [max(self.begun, default=0.0)]

    @property
    def bytes(self) -> int:
        return sum(cache.bytes for cache in list(self.caches.values()))

    def computed(self) -> None:
        """Its last step is FULL."""
        self.full, self.cycle, self.since = self.moments[-1].timesteps, self.since, 0
        self.computed_at = self.calls, self.computed_at[0]

    def miss(self) -> float | None:
        """How far off the cached step before the last FULL one was, or None.

        That is how far the output of the FULL one lies off the line through those of the two steps before.
        """
        outputs = [each[0] for each in self.shown]
        if self.cycle < 2 or len({each.shape for each in outputs}) != 1:
            return None
        return off_the_line(*outputs)

    def touch(self) -> None:
        self.used = next(_uses)

    def forget(self) -> None:
        """Drops the caches: whatever comes next is computed."""
        self.caches.clear()
        self.step = -1

    def end(self) -> None:
        """Its generation is over: no count goes on either."""
        self.forget()
        self.calls = sys.maxsize

    def move(self, moment: Moment, moved: Pace, step: int) -> None:
        """Takes the next step."""
        self.moments = (*self.moments, moment)[-REMEMBERED:]
        self.path.append(max(moment.timesteps, default=0.0))
        self.pace, self.step, self.since = moved, step, self.since + 1
        self.noisy = self.noisy + 1 if moved.likeness is Likeness.DRIFTED else 0
        self.own, self.calls = min(self.own + 1, REMEMBERED), self.calls + 1
        if self.noisy > 1 or (self.noisy and self.calls <= REMEMBERED) or moved.likeness is Likeness.APART:
            self.drifted = self.calls  # but not for a single drift later on, as where a sampler clips
        if step > 0:
            self.missed = None

    def take(self, conditioning: Sequence[Tensor], passing: frozenset[int]) -> None:
        """Knows these tensors as its own from now on, and forgets its caches when the first of them dies.

        The `passing` ones, which are made anew for every call, die at every step: they do not count.
        """
        me = weakref.ref(self)

        def died(_: object) -> None:
            trajectory = me()
            if trajectory is not None:
                trajectory.forget()

        self._given = tuple(
            weakref.ref(tensor) if at in passing else weakref.ref(tensor, died)
            for at, tensor in enumerate(conditioning)
        )

    def changed(self, content: tuple[Hashable, ...]) -> frozenset[int]:
        """Which arguments held something else at its last step."""
        if content == self.content:
            return frozenset()
        pairs = enumerate(zip(self.content, content, strict=True))
        return frozenset([at for at, (mine, given) in pairs if mine != given])

    def replaced(self, conditioning: Sequence[Tensor]) -> frozenset[int]:
        """Which of the tensors are other objects than those of its last step."""
        pairs = enumerate(zip(self._given, conditioning, strict=True))
        return frozenset([at for at, (mine, given) in pairs if mine() is not given])

    def outlived(self, positions: frozenset[int]) -> bool:
        """Whether its conditioning tensors at all these positions are dead."""
        return all(self._given[at]() is None for at in positions)
