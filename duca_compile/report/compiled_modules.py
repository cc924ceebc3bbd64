"""Which modules a user means by what was given: a module, what `torch.compile` made of it, or a pipeline of several."""

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Protocol, TypeAlias

from torch import nn

from duca_compile import torch_private
from duca_compile.plan.own_keywords import is_pipeline, shortly


class Pipeline(Protocol):
    """As those of diffusers: what it is made of, by name."""

    @property
    def components(self) -> Mapping[str, Any]: ...


Model: TypeAlias = nn.Module | Callable[..., Any] | Pipeline


def modules_of(given: Model) -> list[nn.Module]:
    """Those that are or were compiled, or may have been. Raises `TypeError` where nothing can be seen of any."""
    found = None if isinstance(given, type) else _modules(torch_private.original(given))
    if found is None:
        raise TypeError(
            f"give a module, a compiled module or function, or a pipeline (what has `components`), not {shortly(given)}"
        )
    if not found and callable(given):
        raise TypeError(f"no module can be seen in {shortly(given)}; give the module that it calls")
    return list(dict.fromkeys(found))


def parts_of(given: Model) -> list[Any]:
    """What may have been compiled: of a pipeline each component, else what was given."""
    found: Any = given
    return list(found.components.values()) if is_pipeline(found) else [found]


def _modules(given: Any) -> list[nn.Module] | None:
    """None of what is no model."""
    if isinstance(given, nn.Module):
        return [given]
    if is_pipeline(given):
        parts = map(torch_private.original, given.components.values())
        return [part for part in parts if isinstance(part, nn.Module)]
    if callable(given):
        return [module for each in _reached(given) for module in _modules_within(each)]
    return None


def _modules_within(value: Any) -> list[nn.Module]:
    """Of a value that a function reads: functions that it calls are not looked into."""
    known = torch_private.original(value)
    looked_into = isinstance(known, (nn.Module, functools.partial)) or not callable(known)
    return (_modules(known) or []) if looked_into else []


def _reached(function: Any) -> Iterator[Any]:
    """What a function reads beside its arguments."""
    if isinstance(function, functools.partial):
        yield from (function.func, *function.args, *function.keywords.values())
        yield from _reached(function.func)
        return
    if inspect.ismethod(function):
        yield from (function.__self__, *getattr(function.__self__, "__dict__", {}).values())
        function = function.__func__
    if inspect.isfunction(function):
        yield from inspect.getclosurevars(function).nonlocals.values()
        yield from _globals_read(function)


def _globals_read(function: FunctionType) -> Iterator[Any]:
    """Not those that an attribute is named like: `inspect.getclosurevars` may take them for read."""
    read = (each.argval for each in dis.get_instructions(function) if each.opname == "LOAD_GLOBAL")
    return (function.__globals__[name] for name in dict.fromkeys(read) if name in function.__globals__)
