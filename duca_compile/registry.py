"""Finds the dispatchers of a model: Dynamo owns them, we only remember which weights each was compiled over."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from duca_compile.dispatch import Dispatcher


@dataclass(frozen=True)
class _Entry:
    dispatcher: "weakref.ref[Dispatcher]"
    state: tuple["weakref.ref[Any]", ...]


_entries: list[_Entry] = []


def add(dispatcher: "Dispatcher", state: Sequence[Tensor]) -> None:
    _entries.append(_Entry(weakref.ref(dispatcher), tuple(weakref.ref(tensor) for tensor in state)))


def dispatchers(model: nn.Module) -> list["Dispatcher"]:
    """Every live dispatcher compiled over a parameter or buffer of `model`, in order of compilation."""
    _entries[:] = [entry for entry in _entries if entry.dispatcher() is not None]
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    found = [
        entry.dispatcher() for entry in _entries if any(id(ref()) in own for ref in entry.state if ref() is not None)
    ]
    return [dispatcher for dispatcher in found if dispatcher is not None]
