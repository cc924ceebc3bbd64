"""Generations told apart by their caller."""

import inspect
import itertools
import sys
import weakref
from collections.abc import Hashable
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from torch import nn

from duca_compile.plan.own_keywords import is_pipeline

if TYPE_CHECKING:
    from duca_compile.generations.trajectory import Trajectory


class Shared:
    """What all sessions of one key share, for as long as it lives: the `trajectories` that began in them."""

    def __init__(self) -> None:
        self.trajectories: weakref.WeakSet[Trajectory] = weakref.WeakSet()


_named: "weakref.WeakValueDictionary[Hashable, Shared]" = weakref.WeakValueDictionary()
_entries = itertools.count()
_in_generators: "weakref.WeakSet[session]" = weakref.WeakSet()
"""Those whose block is part of a generator: it may go on in another context than it began in."""
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_current: "ContextVar[tuple[session, ...] | None]" = ContextVar("the sessions of duca_compile", default=None)


class session:
    """Calls of compiled models in this block belong to the generation `key`, and share no cache with any other.

    Outside of all sessions, every thread is one of its own; the calls of a session may come from any thread.

    Use it where one generation follows or meets another over the very same conditioning tensors: around each
    generation without a key, or around each call with the key of the request that it serves. Sessions may nest: the
    innermost one counts. What began in a session without a key is forgotten at its end, and what began in any at an
    exception. In a generator it holds while the generator runs, not where it yields to.

    Within a session, steps are told apart by their timesteps as everywhere. With `steps`, the number of steps of the
    generation, they are counted: every call under one conditioning is the next step, though its timestep may stay and
    its latents may not follow from the last ones, and after `steps` of them the count begins anew. So it does where
    the timestep leaps or turns back, where latents that were made of the outputs no longer are, and where they are new
    noise and no timestep has moved on. Use it for models whose timestep is not found.

    `key` names the generation, as the number of a request does: `session(50)` counts nothing, `session(steps=50)` does.

    Raises `TypeError` for a key that is a model or cannot be hashed, and `ValueError` where `steps` is no whole number
    of at least 1.
    """

    def __init__(self, key: Hashable = None, steps: int | None = None) -> None:
        if isinstance(key, nn.Module) or is_pipeline(key):
            raise TypeError(
                f"the key of a session names a generation, as a request's number does, and {type(key).__name__} is a "
                "model; a session is of whatever is called in it: session() or session(steps=...)"
            )
        try:
            hash(key)
        except TypeError:
            raise TypeError(f"the key of a session must be hashable, which {key!r} is not") from None
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1, not {steps!r}")
        self.key: Hashable = object() if key is None else (key,)
        self.steps = steps
        self._is_named = key is not None
        self._shared = Shared()
        self._place = self._entered = 0
        self._frame: FrameType | None = None
        self._is_open = False

    def adopt(self, trajectory: "Trajectory") -> None:
        """One that begins in this session."""
        self._shared.trajectories.add(trajectory)
        trajectory.session = self._shared

    def __enter__(self) -> None:
        if self._is_open:
            raise RuntimeError("this session is entered already; make another one of the same key")
        if self._is_named:
            self._shared = _named.setdefault(self.key, self._shared)
        around = _around(sys._getframe(1))
        self._is_open, self._frame = True, _generator(around)
        self._place, self._entered = id(around), next(_entries)
        if self._frame is not None:
            _in_generators.add(self)
        _current.set((*_open(), self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open, self._frame = False, None
        _in_generators.discard(self)
        _current.set(_open())
        if kind is not None or not self._is_named:
            for trajectory in self._shared.trajectories:
                trajectory.end()

    @property
    def holds(self) -> bool:
        """Whether the block runs: not one of a generator that has yielded to its caller."""
        return self._is_open and (self._frame is None or self._frame.f_back is not None)


def _open() -> "tuple[session, ...]":
    """Those that were entered and not left; one may be left in another context than it was entered in."""
    return tuple([entered for entered in (_current.get() or ()) if entered._is_open])


def _around(frame: FrameType | None) -> FrameType | None:
    """The code that the block is part of. A generator that makes a context manager is run by the block around it."""
    while frame is not None and (_manages(frame) or _manages(frame.f_back)):
        frame = frame.f_back
    return frame


def _generator(frame: FrameType | None) -> FrameType | None:
    return frame if frame is not None and frame.f_code.co_flags & _GENERATORS else None


def _manages(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__") == "contextlib"


def current() -> session | None:
    """The innermost session that the caller is in; None outside of all."""
    entered = [each for each in (_current.get() or ()) if each.holds]
    found = _around_caller(entered) if _in_generators else None
    return found or (entered[-1] if entered else None)


def _around_caller(entered: "list[session]") -> session | None:
    """The innermost one whose block the caller's frame, or one around it, is part of."""
    places = {each._place: each for each in sorted({*entered, *_in_generators}, key=lambda each: each._entered)}
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and id(frame) not in places:
        frame = frame.f_back
    return places[id(frame)] if frame is not None else None


def counts() -> bool:
    """Whether the caller's session counts its calls."""
    innermost = current()
    return innermost is not None and innermost.steps is not None
