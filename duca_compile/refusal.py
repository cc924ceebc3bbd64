"""Why something was left to the inner compiler."""

import logging
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

from torch import fx

from duca_compile import torch_private

log = logging.getLogger("duca_compile")
ISSUES = "https://github.com/duca-compile/duca-compile/issues"
"""Where faults of ours are reported."""
REPORT = f"please report it at {ISSUES}"
LONGEST = 200
"""How many characters of an error that is not ours a user is shown: some have a whole graph in them."""


class Refused(torch_private.ThroughDynamo):
    """This graph cannot be accelerated; the message is a reason a user can act on."""


class Refusal(NamedTuple):
    """Why an analysis or a pass leaves the value named `node` as it is; "graph" where it is all of it."""

    node: str
    reason: str


class OfAllParts(Refused):
    """Of the forward pass that the graph is a part of, no other part may be cached either."""


class Random(OfAllParts):
    """The graph draws random numbers."""


class InternalError(Exception):
    """A fault of ours, with the node it happened at."""


class DucaWarning(UserWarning):
    """A model, or a part of it, runs without acceleration or otherwise than asked; the message says why."""


@contextmanager
def located(node: fx.Node) -> Iterator[None]:
    """Turns any failure inside into an `InternalError` that names the node; the innermost node wins."""
    try:
        yield
    except (Refused, InternalError):
        raise
    except Exception as error:
        if torch_private.is_data_dependent_error(error):
            raise Refused(data_decides(f"%{node.name} = {node.target}")) from error
        raise InternalError(f"{_brief(error)} (at %{node.name} = {node.target})") from error


def data_decides(what: str) -> str:
    return f"{what} has a size or value that only the data decides, and which the rewrites would have to know"


_seen: dict[Any, int] = {}
"""What `warnings` keeps of warnings shown already."""


@contextmanager
def shown_not_raised() -> Iterator[None]:
    """Warnings of others inside are shown as the user's filters have it, but those made errors are logged.

    Where warnings are errors, one of torch's in our capture would end acceleration.
    """
    if not any(action == "error" for action, *_ in warnings.filters):
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for seen in caught:
        try:
            message: Any = seen.message
            warnings.warn_explicit(message, seen.category, seen.filename, seen.lineno, registry=_seen)
        except DucaWarning:
            raise
        except Warning as raised:
            log.warning("while compiling: %s: %s", seen.category.__name__, raised)


def reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if torch_private.is_data_dependent_error(error):
        return data_decides("the forward pass")
    told = str(error) if isinstance(error, InternalError) else _brief(error)
    return f"{told}; this is a fault of duca, {REPORT}"


def _brief(error: Exception) -> str:
    """The first line of what it says; the log has the rest, where `DEBUG` is shown."""
    whole = f"{type(error).__name__}: {error}"
    first = whole.partition("\n")[0].rstrip()
    brief = first if len(first) <= LONGEST else f"{first[:LONGEST]} ..."
    if brief != whole:
        log.debug("in full: %s", whole)
    return brief


COUNT_THEM = "Run each generation in `with duca_compile.session(key, steps=...)`, and its steps are counted"
SPLIT = "Dynamo split the forward pass into several graphs"
NOTHING_CACHED = "its options cache no step: it runs under the inner compiler alone"
Notes: TypeAlias = "weakref.WeakKeyDictionary[object, dict[str, None]]"
"""Of modules and functions that were compiled: what was said in their calls, in order."""
_reasons: Notes = weakref.WeakKeyDictionary()
_warnings: Notes = weakref.WeakKeyDictionary()


def remember(told: str) -> None:
    """Remembers, for statistics, what keeps graphs or calls of what is running from being accelerated or counted."""
    _note(_reasons, told)


def reasons_of(compiled: object) -> tuple[str, ...]:
    """Why graphs or calls of a module or function were not accelerated."""
    return tuple(_reasons.get(compiled, ()))


def warnings_of(compiled: object) -> tuple[str, ...]:
    """What else was warned of in calls of a module or function."""
    return tuple(_warnings.get(compiled, ()))


def _note(notes: Notes, told: str) -> None:
    """Nothing but what `stats` says depends on it."""
    try:
        call = torch_private.root_call()
        if call is not None:
            notes.setdefault(call.compiled, {})[told] = None
    except Exception:
        log.debug("what is to be said of a model could not be noted", exc_info=True)


_told: "weakref.WeakKeyDictionary[object, set[str]]" = weakref.WeakKeyDictionary()
"""Who has heard of what."""


def warn_once(who: object, refused: Refused) -> None:
    """One warning for each thing that keeps `who` from caching."""
    if _is_news(who, str(refused)):
        warn_fallback(refused)


def note_once(who: object, message: str) -> None:
    """One warning about `who` that is no refusal, of each sort."""
    if _is_news(who, message):
        warn(message)


def _is_news(who: object, message: str) -> bool:
    told = _told.setdefault(who, set())
    is_new = message not in told
    told.add(message)
    return is_new


def warn_fallback(error: Exception) -> None:
    """The one warning a user gets when a graph goes to the inner compiler alone."""
    if isinstance(error, DucaWarning):
        raise error
    log.debug("fallback", exc_info=error)
    remember(reason(error))
    _give(f"duca does not accelerate this graph: {reason(error)}")


_held_back: ContextVar[list[str] | None] = ContextVar("warnings of duca_compile", default=None)


@contextmanager
def warnings_after() -> Iterator[None]:
    """Our warnings inside are given at its end: one that the user's filters make an error then finds all in order.

    An exception from inside wins over such an error.
    """
    if _held_back.get() is not None:
        yield
        return
    held: list[str] = []
    token = _held_back.set(held)
    try:
        yield
    except BaseException:
        _held_back.reset(token)
        with suppress(DucaWarning):
            _warn_all(held)
        raise
    _held_back.reset(token)
    _warn_all(held)


def _warn_all(messages: list[str]) -> None:
    """From where the user calls the model, which `warnings` is to tell from the same warning about another one."""
    if not messages:
        return
    frame, shown = torch_private.users_frame(), _shown_of_call()
    file, line, module = frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__")
    for message in messages:
        warnings.warn_explicit(message, DucaWarning, file, line, module, shown)


def _shown_of_call() -> dict[Any, Any]:
    try:
        call = torch_private.root_call()
    except Exception:
        log.debug("whose a warning is could not be told", exc_info=True)
        return {}
    return {} if call is None else _shown.setdefault(call.owner, {})


_shown: "weakref.WeakKeyDictionary[object, dict[Any, Any]]" = weakref.WeakKeyDictionary()
"""What `warnings` keeps, for each compiled model or function, of warnings shown already."""


def warn(message: str) -> None:
    """Of what runs otherwise than one may expect."""
    _note(_warnings, message)
    _give(message)


def _give(message: str) -> None:
    """At once, or at the end of `warnings_after`."""
    held = _held_back.get()
    if held is None:
        _warn_all([message])
    else:
        held.append(message)
