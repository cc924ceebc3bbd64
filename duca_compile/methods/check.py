"""Checks of options, with errors that name the nearest valid choice."""

import difflib
import math
from collections.abc import Iterable, Sequence

from duca_compile.torch_private import ThroughDynamo


class OptionError(ThroughDynamo, ValueError):
    """An option that is unknown or impossible; the message names the nearest valid one.

    `torch.compile` hands options to a backend at the first call of the model, which raises it as it is.
    """


def require_int(name: str, value: object, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise OptionError(f"{name} must be a whole number of at least {at_least}, not {value!r}")


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def require_at_least_0(name: str, value: object) -> None:
    """Of a number, whole or not."""
    if not isinstance(value, (int, float)) or not is_number(value) or value < 0:
        raise OptionError(f"{name} must be a number of at least 0, not {value!r}")


def numbers(name: str, value: object) -> tuple[float, ...]:
    """Those that an option lists."""
    listed = None if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if listed is None or not all(map(is_number, listed)):
        raise OptionError(f"{name} must be a list of numbers, not {value!r}")
    return listed


def require_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, not {value!r}")


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise OptionError(f"{name} cannot be {value!r}{nearest(str(value), choices)}; it is one of {listed}")


def nearest(word: str, choices: Sequence[object]) -> str:
    known = {str(choice).lower(): str(choice) for choice in choices}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""
