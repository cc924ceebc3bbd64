"""Finds the dispatchers of a model: Dynamo owns them, we only remember over which weights each has run."""

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from duca_compile.dispatch import Dispatcher

_Seen = dict[int, "weakref.ref[Any]"]
_weights: "weakref.WeakKeyDictionary[Dispatcher, _Seen]" = weakref.WeakKeyDictionary()


def add(dispatcher: "Dispatcher", weights: Iterable[Tensor]) -> None:
    """Remembers that the dispatcher ran over these weights. Dynamo runs all instances of a class through one graph."""
    seen = _weights.setdefault(dispatcher, {})
    for weight in weights:
        known = seen.get(id(weight))
        if known is None or known() is not weight:
            seen[id(weight)] = weakref.ref(weight)


def dispatchers(model: nn.Module) -> list["Dispatcher"]:
    """Every live dispatcher that has run over a parameter or buffer of `model`."""
    own = [*model.parameters(), *model.buffers()]
    return [found for found, seen in list(_weights.items()) if any(_is(seen, weight) for weight in own)]


def _is(seen: _Seen, weight: Tensor) -> bool:
    known = seen.get(id(weight))
    return known is not None and known() is weight
