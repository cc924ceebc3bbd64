"""Why something was left to the inner compiler."""

import logging
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from torch import fx

from duca_compile.torch_private import is_data_dependent_error

log = logging.getLogger("duca_compile")


class Refused(Exception):
    """This graph cannot be accelerated; the message is a reason a user can act on."""


class Random(Refused):
    """The graph draws random numbers: of the forward pass that it is a part of, no other part may be cached either."""


class InternalError(Exception):
    """A fault of ours, with the node it happened at."""


class DucaWarning(UserWarning):
    """A model, or a part of it, runs without acceleration; the message says why."""


@contextmanager
def located(node: fx.Node) -> Iterator[None]:
    """Turns any failure inside into an `InternalError` that names the node; the innermost node wins."""
    try:
        yield
    except (Refused, InternalError):
        raise
    except Exception as error:
        if is_data_dependent_error(error):
            raise Refused(data_decides(f"%{node.name} = {node.target}")) from error
        raise InternalError(f"{type(error).__name__}: {error} (at %{node.name} = {node.target})") from error


def data_decides(what: str) -> str:
    return f"{what} has a size or value that only the data decides, and which the rewrites would have to know"


def reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if is_data_dependent_error(error):
        return data_decides("the forward pass")
    told = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    return f"{told}; this is a fault of duca, please report it"


COUNT_THEM = "Run each generation in `with duca_compile.session(key, steps=...)`, and its steps are counted"
_warned: "weakref.WeakSet[object]" = weakref.WeakSet()


def warn_once(who: object, refused: Refused) -> None:
    """One warning for everything that ever keeps `who` from caching."""
    if who not in _warned:
        _warned.add(who)
        warn_fallback(refused)


def warn_fallback(error: Exception) -> None:
    """The one warning a user gets when a graph goes to the inner compiler alone."""
    log.debug("fallback", exc_info=error)
    warnings.warn(f"duca does not accelerate this graph: {reason(error)}", DucaWarning, stacklevel=3)
