"""One trajectory and one recipe for all graphs of a forward pass that Dynamo split at graph breaks.

The graphs of one call find each other through the call itself: its frame holds the arguments that the caller gave.
Which of these are the timesteps, the first call of a model tells; from the second call on its graphs keep caches.

Between its graphs the model runs Python that we do not see. So a trajectory expects the graphs it has met before,
over the same weights and with the same of the caller's tensors: where a call meets another one, all that follows in
it is computed, and so is the next call.
"""

import logging
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from duca_compile import torch_private
from duca_compile.analysis.call_inputs import is_named_for_time, likeliest_latents
from duca_compile.generations import advice, diffusers_context
from duca_compile.generations.budget import Budget
from duca_compile.generations.given import Given
from duca_compile.generations.identity import Identity, State, state
from duca_compile.generations.tracker import Tracker
from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.refusal import DucaWarning, Random, Refused, note_once, warn_fallback, warn_once
from duca_compile.runtime import registry
from duca_compile.runtime.compiled_graph import CompiledGraph
from duca_compile.runtime.partly import warn_partly
from duca_compile.runtime.split import randomness
from duca_compile.runtime.split.bill import Bill
from duca_compile.runtime.split.call_tensors import Leaf, leaves
from duca_compile.runtime.split.part import Part
from duca_compile.runtime.steps import NO_CLOCK, Step, Steps, budget_of, note_other_steps

log = logging.getLogger("duca_compile")
_KEY = "the forward pass, to duca_compile"


class SharedSteps(Steps):
    """The graph is a part of the forward pass: all parts take the same step."""

    def __init__(self, part: Part, options: Options) -> None:
        self.part = part
        self._options = options

    def next(self, graph: CompiledGraph, args: Sequence[Any]) -> Step:
        forward = _forward(self._options)
        return _UNPLACED if forward is None else forward.next(self.part, graph, args)

    def pass_by(self, args: Sequence[Any]) -> Callable[[Any], None]:
        """The part runs as it is. Where nobody can be told so, nobody keeps a cache any longer.

        What is returned is to be called with its results, or with nothing if it fails.
        """
        try:
            forward = _forward(self._options)
            if forward is not None:
                forward.meet(self.part, args)
                if self.part.ends_all:
                    forward.give_up(Refused(self.part.refusal))
                return forward.produced
        except Exception as error:
            if self._options.strict:
                raise
            for split in list(_splits.values()):
                split.give_up(error)
        return lambda results: None

    def clear(self) -> None:
        """A part that fails gives exact results from then on: the caches of the others stay true."""


class Split:
    """All calls of one compiled function whose forward pass is split."""

    def __init__(self, options: Options, budget: Budget) -> None:
        self.tracker = Tracker(budget)
        self._options = options
        self._calls = 0
        self._drew = 0
        self._met: Counter[Part] = Counter()
        self._times: set[str] = set()
        self._latents: dict[Hashable, Identity] = {}
        self._given: set[Hashable] = set()
        self.given_up = False
        self._lock = threading.RLock()

    def begin(self, call: torch_private.RootCall) -> "Forward":
        """Places a call."""
        with self._lock:
            if self.given_up:
                return Forward(self, [], None, FULL)
            try:
                if self._calls < randomness.WATCHED:
                    self._watch(call)
                forward = self._place(leaves(call.arguments()), diffusers_context.of(call.module))
                if self._calls == 2:
                    forward.count(call, self._options.recipes)
                return forward
            except Exception as error:
                if self._options.strict:
                    raise
                self.give_up(error)
                return Forward(self, [], None, FULL)

    def _watch(self, call: torch_private.RootCall) -> None:
        """Gives up after the first calls where all of them drew random numbers."""
        before = randomness.state()

        def end() -> None:
            self._drew += randomness.state() != before
            if self._drew == randomness.WATCHED:
                self.give_up(Random(randomness.DRAWN))

        call.cleanups.append(end)

    def give_up(self, error: Exception) -> None:
        """All graphs compute all from now on; not where the user's filters have made an error of a warning of ours."""
        if isinstance(error, DucaWarning):
            raise error
        before, self.given_up = self.given_up, True
        self.tracker.clear()
        if not before:
            warn_fallback(error)

    def learn(self, part: Part, args: Sequence[Any], given: list[Leaf]) -> None:
        """During the first call: takes note of a graph, and of the caller's tensors that it embeds as timesteps."""
        with self._lock:
            if self._calls > 1:
                return
            self._met[part] += 1
            memory = {tensor.untyped_storage().data_ptr() for tensor in part.timesteps(args)}
            tensors = [leaf for leaf in given if leaf.is_tensor]
            self._times |= {leaf.name for leaf in tensors if leaf.value.untyped_storage().data_ptr() in memory}

    def _place(self, given: list[Leaf], context: diffusers_context.Context | None) -> "Forward":
        self._calls += 1
        if self._calls == 1:
            self._latents_of(given)
            return Forward(self, given, None, FULL)
        if self._calls == 2:
            self._settle(given)
        timesteps = [leaf for leaf in given if leaf.name in self._times and leaf.is_tensor]
        rest = [leaf for leaf in given if leaf not in timesteps]
        denoised = self._latents_of(rest)
        fixed = [leaf for leaf in rest if leaf not in denoised]
        tensors, numbers = ([leaf for leaf in fixed if getattr(leaf, sort)] for sort in ("is_tensor", "is_number"))
        latents = [leaf.value for leaf in denoised]
        call = Given(
            timesteps=[leaf.value for leaf in timesteps],
            latents=latents,
            conditioning=[leaf.value for leaf in tensors],
            sizes=(
                *((leaf.path, leaf.value) for leaf in fixed if leaf not in (*tensors, *numbers)),
                *(leaf.path for leaf in (*tensors, *numbers)),
                *((tuple(each.shape), each.dtype, each.device) for each in latents),
                *(tuple(leaf.value.shape) for leaf in timesteps),
            ),
            numbers=tuple(leaf.value for leaf in numbers),
            names=[".".join(map(str, leaf.path)) for leaf in (*tensors, *numbers)],
        )
        visit = self.tracker.visit(call, context)
        if visit is None:
            warn_once(self, Refused(f"{NO_CLOCK}; {self._summary()}"))
            return Forward(self, given, None, FULL)
        note_other_steps(visit.trajectory, self._options, self)
        recipe = self.tracker.begin(visit, self._options.method, visit.trajectory.bytes)
        return Forward(self, given, visit.trajectory, recipe, latents)

    def _latents_of(self, rest: list[Leaf]) -> list[Leaf]:
        """The latents. An item of a list of them that stayed while others changed is given, as a reference image is."""
        name = likeliest_latents({leaf.name: leaf.value for leaf in rest if leaf.is_tensor})
        alike = [leaf for leaf in rest if leaf.is_tensor and leaf.name == name]
        now: dict[Hashable, State] = {leaf.path: state([leaf.value]) for leaf in alike}
        stayed = {path for path, known in self._latents.items() if path in now and known.is_of(now[path])}
        if len(stayed) < len(alike):
            self._given |= stayed
        self._latents = {path: Identity(seen) for path, seen in now.items()}
        return [leaf for leaf in alike if leaf.path not in self._given]

    def _settle(self, given: list[Leaf]) -> None:
        """Draws the conclusions of the first call. Raises `Refused` where there is nothing to accelerate."""
        found = self._times or {leaf.name for leaf in given if leaf.is_tensor}
        named = {name for name in found if is_named_for_time(name)}
        self._times = named or (self._times if len(self._times) == 1 else set())
        if not any(part.plan for part in self._met):
            raise Refused(f"no graph of a split forward pass has a residual branch; {self._summary()}")

    def _summary(self) -> str:
        parts = [f"{count} x {part}" for part, count in self._met.items()]
        return "; ".join([f"Dynamo split the forward pass into {self._met.total()} graphs", *parts])

    def tell(self, bill: Bill) -> None:
        """What a step executes by each recipe, after the call it was counted in, which no fault of this may harm."""
        try:
            if not self.given_up:
                log.info("%s; %s", self._summary(), bill)
                if bill.flops is not None:
                    warn_partly(self, bill.flops, self._options, bill.advice)
        except Exception as error:
            if self._options.strict or isinstance(error, DucaWarning):
                raise
            log.debug("what a step executes could not be told", exc_info=True)


class Forward:
    """One call of a split forward pass. Without a `trajectory` its graphs compute all and keep nothing."""

    def __init__(
        self,
        split: Split,
        given: list[Leaf],
        trajectory: Trajectory | None,
        recipe: str,
        latents: Sequence[Tensor] = (),
    ) -> None:
        self._split = split
        self._given = given
        self._latents = latents
        self._paths = {id(leaf.value): leaf.path for leaf in given if leaf.is_tensor}
        self._seen: Counter[Hashable] = Counter()
        self._trajectory = trajectory
        self._recipe = recipe
        self._bill: Bill | None = None
        if trajectory is not None:
            trajectory.full_steps += recipe == FULL

    def count(self, call: torch_private.RootCall, recipes: Collection[str]) -> None:
        """Counts what the call executes, from here to its end, and tells it unless it fails."""
        if self._trajectory is None:
            return
        bill, handled = Bill(recipes), sys.exc_info()[1]

        def end() -> None:
            bill.close()
            if sys.exc_info()[1] is handled:
                self._split.tell(bill)

        call.cleanups.append(end)
        self._bill = bill

    def next(self, part: Part, graph: CompiledGraph, args: Sequence[Any]) -> Step:
        key = self.meet(part, args)
        trajectory, tracker = self._trajectory, self._split.tracker
        if trajectory is None or self._split.given_up:
            return _UNPLACED
        cache = trajectory.caches.get(key)
        if cache is None:
            registry.add(graph, tracker, part.weights(args))
            cache = graph.new_cache(args, graph.plan.seed + len(trajectory.caches))
            trajectory.caches[key] = cache
        if self._recipe != FULL and cache.full_step != trajectory.full_steps:
            self._start_over(trajectory)
        if self._recipe == FULL:
            cache.full_step = trajectory.full_steps
        return PartStep(self._recipe, cache, trajectory.calls, trajectory.drifted, forward=self)

    def meet(self, part: Part, args: Sequence[Any]) -> Hashable:
        """What tells this run of the graph from others in a call. Starts over where the trajectory has not met it."""
        self._split.learn(part, args, self._given)
        if self._bill is not None:
            self._bill.enter(part, args)
        trajectory = self._trajectory
        if trajectory is None:
            return None
        weights = state(part.weights(args), part.probes)
        own = tuple(self._paths.get(id(tensor)) for tensor in part.tensors(args))
        run = (part.serial, weights.key, own, part.sizes(args))
        key = (*run, self._seen[run] if part.plan else 0)
        self._seen[run] += 1
        known = trajectory.parts.get(key)
        if known is None or not known.is_of(weights):
            trajectory.parts[key] = Identity(weights)
            trajectory.caches.pop(key, None)
            if self._recipe != FULL:
                self._start_over(trajectory)
        return key

    def _start_over(self, trajectory: Trajectory) -> None:
        """Computes what is left of this call, and the next one."""
        tracker = self._split.tracker
        tracker.resets[advice.ANOTHER_WAY] += 1
        if tracker.resets[advice.ANOTHER_WAY] == advice.PATIENCE:
            note_once(self._split, advice.ANEW)
        tracker.computes(trajectory)
        self._recipe = FULL
        trajectory.full_steps += 1

    def produced(self, results: Sequence[Any]) -> None:
        """A part gave these. The last one's are the model's, of which samplers make the next latents."""
        if self._bill is not None:
            self._bill.leave()
        if self._trajectory is None or not self._latents:
            return
        moment, like = self._trajectory.moments[-1], self._latents[0]
        for result in results:
            if isinstance(result, Tensor) and result.shape == like.shape:
                self._split.tracker.produced((result,), self._latents, moment)

    def give_up(self, error: Exception) -> None:
        self._split.give_up(error)

    def stored(self) -> None:
        if self._trajectory is not None:
            self._split.tracker.settle(self._trajectory)

    def abandon(self) -> None:
        if self._trajectory is not None:
            self._split.tracker.abandon(self._trajectory)
            self._trajectory = None


@dataclass(kw_only=True)
class PartStep(Step):
    """The part in `forward` of one graph."""

    forward: Forward

    def produced(self, results: Sequence[Any]) -> None:
        self.forward.produced(results)

    def stored(self) -> None:
        self.forward.stored()

    def abandon(self) -> None:
        self.forward.abandon()


_UNPLACED = Step(FULL, None)
_splits: "weakref.WeakKeyDictionary[Any, Split]" = weakref.WeakKeyDictionary()


def _forward(options: Options) -> Forward | None:
    """The call that runs just now, which it is found by: torch's dictionary of its keyword arguments is its own."""
    call = torch_private.root_call()
    if call is None:
        return None
    known: Forward | None = call.kwargs.get(_KEY)
    if known is None:
        split = _splits.get(call.owner)
        if split is None:
            split = _splits[call.owner] = Split(options, budget_of(options))
        known = call.kwargs[_KEY] = split.begin(call)
    return known
