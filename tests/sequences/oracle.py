"""Whose cache a call reads.

A *stream* is the calls of one generation under one conditioning, over one state of the weights, in one shape, from one
owner (session or thread), since the last reset. Each cache is marked with the stream whose full step
filled it; every cached step must be given one that its own stream filled, less than a cycle of its steps ago: of its
calls, but for those that follow at the same timestep, as every other one of Heun's method does.
"""

import weakref
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from duca_compile.generations.trajectory import Cache
from duca_compile.methods.duca import Mode

CYCLE = 5


class Stream(NamedTuple):
    generation: int
    """Its serial number."""
    content: Hashable
    """Of its conditioning."""
    shape: tuple[int, ...]
    weights: Hashable
    owner: Hashable
    resets: int


class Fill(NamedTuple):
    """A cache was filled in the step of this number of a stream."""

    stream: Stream
    call: int


class Wrong(NamedTuple):
    """A step of `reader` ran in `mode` on a cache that is not its own, or that is too old."""

    reader: Stream
    mode: str
    fill: Fill | None

    def __str__(self) -> str:
        return f"wrong reuse: a {self.mode} step of {self.reader} was given the cache of {self.fill}"


class Interrupted(BaseException):
    """Leaves a step after its mode and cache were chosen."""


@dataclass
class Oracle:
    """`counts`: calls by mode; `wrong` ones among them, which raise unless `collects`."""

    collects: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[Wrong] = field(default_factory=list)
    _fills: "weakref.WeakKeyDictionary[Cache, Fill]" = field(default_factory=weakref.WeakKeyDictionary)
    _calls: Counter[Stream] = field(default_factory=Counter)
    _times: dict[Stream, float] = field(default_factory=dict)

    def restore(self) -> None:
        self._fills.clear()
        self._calls.clear()
        self._times.clear()

    def meets(self, stream: Stream, mode: str, cache: Cache, time: float) -> None:
        """A call of `stream` at a timestep is about to run in `mode` on `cache`."""
        self.counts[mode] += 1
        self._calls[stream] += self._times.get(stream) != time
        self._times[stream] = time
        if mode == Mode.FULL:
            self._fills.pop(cache, None)
            return
        fill = self._fills.get(cache)
        if fill is None or fill.stream != stream or self._calls[stream] - fill.call >= CYCLE:
            self.wrong.append(Wrong(stream, mode, fill))
            if not self.collects:
                raise AssertionError(str(self.wrong[-1]))

    def filled(self, stream: Stream, cache: Cache) -> None:
        """Its FULL step is done."""
        self._fills[cache] = Fill(stream, self._calls[stream])

    def spoilt(self, cache: Cache) -> None:
        """An exception left the step that was given it."""
        self._fills.pop(cache, None)
