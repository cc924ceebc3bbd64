"""Generations told apart by their caller."""

import weakref
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duca_compile.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Session:
    """`steps`: its calls are counted instead of told apart. `trajectories` that began in it."""

    key: Hashable
    steps: int | None
    trajectories: "weakref.WeakSet[Trajectory]" = field(default_factory=weakref.WeakSet)


_current: ContextVar[Session | None] = ContextVar("the session of duca_compile", default=None)


@contextmanager
def session(key: Hashable = None, steps: int | None = None) -> Iterator[None]:
    """Calls of compiled models in this block belong to the generation `key`, and share no cache with any other.

    Outside of all sessions, every thread is one of its own; the calls of a session may come from any thread.

    Use it where one generation follows or meets another over the very same conditioning tensors: around each
    generation without a key, or around each call with the key of the request that it serves. Sessions may nest: the
    innermost one counts. What began in a session without a key is forgotten at its end.

    Within a session, steps are told apart by their timesteps as everywhere. With `steps`, the number of steps of the
    generation, they are counted instead: every call under one conditioning is the next step, whatever its timestep, and
    after `steps` of them the count begins anew. Use it for models whose timestep is not found.

    Raises `ValueError` where `steps` is no whole number of at least 1.
    """
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a whole number of at least 1, not {steps!r}")
    held = Session(object() if key is None else (key,), steps)
    token = _current.set(held)
    try:
        yield
    finally:
        _current.reset(token)
        if key is None:
            for trajectory in held.trajectories:
                trajectory.forget()


def current() -> Session | None:
    """The session that the caller is in; None outside of all."""
    return _current.get()


def counts() -> bool:
    """Whether the caller's session counts its calls."""
    session = current()
    return session is not None and session.steps is not None
