"""What a `diffusers` pipeline says of a call by `cache_context(name, step_index=..., num_inference_steps=...)`.

`diffusers` hands it to whoever keeps a state for the model: the managers of states among the hooks in the model's
registry. We stand in the list of registries as one that has such a hook, and change nothing of the model. What is told
there is known to the thread, or asynchronous task, that told it, and to no other one that runs the same model. At a
model's first call we are not in the list yet: then the context is read from the generator that it was entered by.

`diffusers` is never imported: a model without a registry, or with one of another make, has no context.
"""

import gc
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType, GeneratorType, MappingProxyType, SimpleNamespace
from typing import Any, TypeAlias

from torch import nn

from duca_compile import torch_private

Generator: TypeAlias = "GeneratorType[Any, Any, Any]"
_NAME = "duca_compile"
_joining = threading.Lock()


@dataclass(frozen=True)
class Context:
    """`name` tells the calls of one step apart; `index` is the step's, of `total` steps, where it is given."""

    name: str
    index: int | None
    total: int | None


_entered: ContextVar[Mapping[object, Context]] = ContextVar("of each listener", default=MappingProxyType({}))


def entered() -> Context | None:
    """That of the call of a compiled model that is running; None without a pipeline that said one."""
    if "diffusers" not in sys.modules:
        return None
    call = torch_private.root_call()
    return None if call is None else of(call.module)


def of(module: nn.Module | None) -> Context | None:
    """The context that the caller has entered for the module; None outside of all."""
    registry = None if module is None else vars(module).get("_diffusers_hook")
    if module is None or registry is None:
        return None
    house: Any = sys.modules.get(type(registry).__module__)
    if not hasattr(house, "_set_cache_context"):
        return None
    with _joining:
        listener = _listener_in(registry._get_child_registries())
        if listener is None:
            listener = _Listener(house.StateManager, _suspended(module))
            registry._get_child_registries().append(listener)
    return _entered.get().get(listener) or listener.missed()


class _Listener:
    """Stands for the registry of a module that has a hook which keeps a state. Copied or pickled, it is an empty one.

    `suspended`: what was entered before it could listen.
    """

    def __init__(self, manager: type, suspended: list[Generator]) -> None:
        hear: Callable[..., None] = self.hear
        told = type("Told", (manager,), {"set_context": lambda self, context: hear(context and _read(vars(context)))})
        hook = SimpleNamespace(_is_stateful=True, manager=told(object), reset_state=lambda module: None)
        self.hooks = {_NAME: hook}
        self._hook_order = [_NAME]
        self._missed = [weakref.ref(entered) for entered in suspended]

    def hear(self, context: Context | None) -> None:
        """That its caller enters a context, or leaves all of them."""
        others = {listener: held for listener, held in _entered.get().items() if listener is not self}
        if context is not None:
            others[self] = context
        _entered.set(others)

    def missed(self) -> Context | None:
        """What was entered before it could listen and was not left yet; None where threads say different things."""
        if not self._missed:
            return None
        frames = [(ref, getattr(ref(), "gi_frame", None)) for ref in self._missed]
        self._missed = [ref for ref, frame in frames if frame is not None]
        said = {_read({"name": at.f_locals["name"], **at.f_locals["kwargs"]}) for _, at in frames if at is not None}
        return said.pop() if len(said) == 1 else None

    def __reduce__(self) -> tuple[Any, ...]:
        return SimpleNamespace, (), {"hooks": {}, "_hook_order": []}


def _listener_in(children: list[Any]) -> _Listener | None:
    """Ours in the registry's list of its children's, which `diffusers` makes anew when hooks come or go."""
    return next((child for child in reversed(children) if isinstance(child, _Listener)), None)


def _suspended(module: nn.Module) -> list[Generator]:
    """Calls of the module's `cache_context` that have been entered and not been left, in all threads.

    Each is a generator, and refers to the module as its `self`: by its frame, before Python 3.11.
    """
    method = inspect.unwrap(getattr(type(module), "cache_context", len))
    code = getattr(method, "__code__", None)
    referring = gc.get_referrers(module)
    frames = [held for held in referring if isinstance(held, FrameType) and held.f_code is code]
    referring += gc.get_referrers(*frames) if frames else []
    return [held for held in referring if isinstance(held, GeneratorType) and held.gi_code is code]


def _read(fields: Mapping[str, Any]) -> Context:
    return Context(fields["name"], fields.get("step_index"), fields.get("num_inference_steps"))
