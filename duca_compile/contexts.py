"""What a `diffusers` pipeline says of a call by `cache_context(name, step_index=..., num_inference_steps=...)`.

`diffusers` hands it to whoever keeps a state for the model: the managers of states among the hooks in the model's
registry. We stand in the list of registries as one that has such a hook, and change nothing of the model. `diffusers`
is never imported: a model without a registry, or with one of another make, has no context.
"""

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn

from duca_compile import torch_private

_NAME = "duca_compile"


@dataclass(frozen=True)
class Context:
    """`name` tells the calls of one step apart; `index` is the step's, of `total` steps, where it is given."""

    name: str
    index: int | None
    total: int | None


def entered() -> Context | None:
    """That of the call of a compiled model that is running; None without a pipeline that said one."""
    if "diffusers" not in sys.modules:
        return None
    call = torch_private.root_call()
    return None if call is None else of(call.module)


def of(module: nn.Module | None) -> Context | None:
    """The context that the pipeline is in; None outside of all, and at a model's very first call."""
    registry = None if module is None else vars(module).get("_diffusers_hook")
    if registry is None:
        return None
    house = sys.modules.get(type(registry).__module__)
    if not hasattr(house, "_set_cache_context"):
        return None
    held = _listener(registry, house).hooks[_NAME].manager._context
    return None if held is None else Context(held.name, held.step_index, held.num_inference_steps)


def _listener(registry: Any, house: Any) -> Any:
    """Ours in the registry's list of its children's, which `diffusers` makes anew when hooks come or go."""
    children = registry._get_child_registries()
    for child in reversed(children):
        if isinstance(child, SimpleNamespace):
            return child
    manager = house.StateManager(object)
    hook = SimpleNamespace(_is_stateful=True, manager=manager, reset_state=lambda module: None)
    children.append(SimpleNamespace(hooks={_NAME: hook}, _hook_order=[_NAME]))
    return children[-1]
