"""Every call checked against the same call in a process of its own.

A *stream* is the calls of one generation under one conditioning, over one state of the weights, in one shape. Each call
is run twice. First as the user's: the tracker chooses mode and caches. Then alone: in the same mode, on caches that
have seen the calls of this stream only, as a fresh process would hold that made no others. Both must agree bit for bit,
and the first call of a stream must be full. If the tracker ever hands a call the caches of another stream, caches from
before a change of the weights or from before an exception, the two differ.

Random tokens are replaced by fixed ones: which are drawn depends on how often a stream began, its results may not.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from duca_compile.compiled import CompiledMode
from duca_compile.modes import Mode
from duca_compile.selection import RandomTokens
from duca_compile.steps import OwnSteps, Step, new_cache
from duca_compile.trajectory import Cache

Caches = dict[int, Cache]


class Interrupted(BaseException):
    """Leaves a step when its graph has run and has written to the caches."""


@dataclass
class Oracle:
    """`counts`: calls by mode, `wrong` ones among them."""

    counts: Counter[str] = field(default_factory=Counter)
    streams: dict[Hashable, Caches] = field(default_factory=dict)
    interrupts: bool = False
    _seen: list[Mode] = field(default_factory=list)
    _alone: tuple[Mode, Caches] | None = None

    def call(self, stream: Hashable, fast: Callable[[], Tensor]) -> Tensor:
        """Runs `fast` as the user's call, then alone. Raises `Interrupted` out of it where asked for."""
        self._seen.clear()
        try:
            got = fast()
        except Interrupted:
            self.streams.pop(stream, None)
            raise
        (mode,) = self._seen
        self.counts[mode.value] += 1
        caches = self.streams.setdefault(stream, {})
        if mode is not Mode.FULL and not any(cache.features for cache in caches.values()):
            self.counts["wrong"] += 1
            raise AssertionError(f"wrong reuse: {stream} began {mode.value}")
        with self._by_itself(mode, caches):
            want = fast()
        if not torch.equal(got, want):
            self.counts["wrong"] += 1
            raise AssertionError(f"wrong reuse: {stream} in a {mode.value} step, off by {(got - want).abs().max()}")
        return got

    @contextmanager
    def _by_itself(self, mode: Mode, caches: Caches) -> Iterator[None]:
        self._alone = mode, caches
        try:
            yield
        finally:
            self._alone = None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        chosen, run = OwnSteps.next, CompiledMode.__call__

        def step(own: OwnSteps, graph: Any, args: Any) -> Step | None:
            if self._alone is None:
                found = chosen(own, graph, args)
                assert found is not None
                self._seen.append(found.mode)
                return found
            mode, caches = self._alone
            if id(graph) not in caches:
                caches[id(graph)] = new_cache(graph, args, 0)
            return Step(mode, caches[id(graph)])

        def interruptible(compiled: CompiledMode, inputs: Any) -> list[Any]:
            found = run(compiled, inputs)
            if self.interrupts and self._alone is None:
                self.interrupts = False
                raise Interrupted
            return found

        patch.setattr(OwnSteps, "next", step)
        patch.setattr(CompiledMode, "__call__", interruptible)
        patch.setattr(RandomTokens, "draw", _fixed)


def _fixed(self: RandomTokens, device: torch.device) -> list[Tensor]:
    return [torch.arange(each.count) for each in self.selections for _ in each.inputs]
