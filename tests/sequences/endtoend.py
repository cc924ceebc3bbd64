"""Plays calls on compiled models. A call can be made a second time alone, and both must agree bit for bit.

Alone it runs in the same mode, on caches that have seen the calls of its stream only, as a process would hold that made
no others. Random tokens are replaced by fixed ones: which are drawn depends on how often a stream began, its results
may not.
"""

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import duca_compile
from duca_compile.generations.draw_tokens import RandomTokens
from duca_compile.generations.trajectory import Cache
from duca_compile.methods.duca import Mode
from duca_compile.runtime.compiled import CompiledRecipe
from duca_compile.runtime.steps import OwnSteps, Step
from helpers import compiled
from sequences.direct import Call, Kind
from sequences.models import CHANGES, Small, state
from sequences.oracle import Interrupted, Oracle, Stream

_STATES = [state(index) for index in range(3)]


@dataclass
class EndToEnd:
    """The compiled models of one process. `twice`: every call is made a second time, alone."""

    oracle: Oracle
    kinds: tuple[Kind, ...] = (Kind("own", "eps"), Kind("own", "eps"), Kind("own", "flow"), Kind("own", "eps"))
    changes: tuple[str, ...] = tuple(CHANGES)
    interrupts: str = ""
    twice: bool = False
    _seen: list[Step] = field(default_factory=list)
    _alone: tuple[str, Cache] | None = None
    _doubles: "weakref.WeakKeyDictionary[Cache, tuple[Stream, Cache]]" = field(
        default_factory=weakref.WeakKeyDictionary
    )
    """What each cache would be if it had seen the calls of its stream only."""

    def __post_init__(self) -> None:
        models = [Small(kind.predicts).eval() for kind in self.kinds[:3]]
        self.models = [*models, copy.deepcopy(models[0]).double()]
        for model in self.models:
            model.requires_grad_(False)
        self.fast = [compiled(model, dynamic=False, cache_ratio=0.5) for model in self.models]

    def restore(self, twice: bool) -> None:
        """As in a fresh process, but for what is compiled."""
        self.oracle.restore()
        self.interrupts, self.twice = "", twice
        for model in self.models:
            model.load_state_dict(_STATES[0], strict=False)
            duca_compile.reset(model)

    def change_weights(self, model: int, how: str, state: int) -> None:
        CHANGES[how](self.models[model], _STATES[state])

    def reset(self, model: int) -> None:
        duca_compile.reset(self.models[model])

    @torch.no_grad()
    def call(self, call: Call) -> Tensor:
        fast, dtype = self.fast[call.model], self.models[call.model].leave.weight.dtype
        given = call.latents.to(dtype), call.time, *call.conditioning
        self._seen.clear()
        self._stream, self._time = call.stream, call.time.flatten()[0].item()
        try:
            found: Tensor = fast(*given)
        except Interrupted:
            self.oracle.spoilt(self._cache)
            raise
        (step,) = self._seen
        if step.recipe == Mode.FULL:
            self.oracle.filled(call.stream, self._cache)
        if self.twice:
            self._check(call, step.recipe, found, given)
        return found.double()

    @property
    def _cache(self) -> Cache:
        cache = self._seen[-1].cache
        assert cache is not None
        return cache

    def _check(self, call: Call, mode: str, found: Tensor, given: Any) -> None:
        cache = self._cache
        if mode == Mode.FULL:
            self._doubles[cache] = call.stream, Cache(cache.draws)
        elif self._doubles[cache][0] != call.stream:
            return  # which the oracle has said already
        with self._by_itself(mode, self._doubles[cache][1]):
            want = self.fast[call.model](*given)
        if not torch.equal(found, want):
            raise AssertionError(f"wrong reuse: {call.stream}, {mode}, is off by {(found - want).abs().max()}")

    @contextmanager
    def _by_itself(self, mode: str, cache: Cache) -> Iterator[None]:
        self._alone = mode, cache
        try:
            yield
        finally:
            self._alone = None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        chosen, run = OwnSteps.next, CompiledRecipe.__call__

        def step(own: OwnSteps, graph: Any, args: Any) -> Step | None:
            if self._alone is not None:
                return Step(*self._alone)
            found = chosen(own, graph, args)
            assert found is not None
            assert found.cache is not None
            self._seen.append(found)
            self.oracle.meets(self._stream, found.recipe, found.cache, self._time)
            return found

        def interruptible(mode: CompiledRecipe, inputs: Any) -> list[Any]:
            where, self.interrupts = self.interrupts, ""
            if where == "before the output":
                raise Interrupted
            found = run(mode, inputs)
            if where:
                raise Interrupted
            return found

        patch.setattr(OwnSteps, "next", step)
        patch.setattr(CompiledRecipe, "__call__", interruptible)
        patch.setattr(RandomTokens, "draw", _fixed)


def _fixed(self: RandomTokens, device: torch.device) -> list[Tensor]:
    return [torch.arange(each.count) for each in self.selections for _ in each.inputs]
