"""Generations told apart by their caller."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[Hashable] = ContextVar("the session of duca_compile", default=None)


@contextmanager
def session(key: Hashable = None) -> Iterator[None]:
    """Calls of compiled models in this block belong to the generation `key`, and share no cache with any other.

    Use it where one generation follows or meets another over the very same conditioning tensors: around each
    generation without a key, or around each call with the key of the request that it serves. Sessions may nest: the
    innermost one counts. Within a session, steps are told apart as everywhere.
    """
    token = _current.set(object() if key is None else (key,))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Hashable:
    """The session that the caller is in; None outside of all."""
    return _current.get()
