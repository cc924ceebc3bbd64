"""The tensors and values among the arguments of a call, at any depth."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from duca_compile import torch_private
from duca_compile.refusal import Refused

_VALUES = (
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    torch.dtype,
    torch.device,
    torch.memory_format,
)
_DEEPEST = 8


@dataclass(frozen=True, eq=False)
class Leaf:
    """`path` leads to it; `name` is the last name on the path, which the items of a list share."""

    path: tuple[Hashable, ...]
    value: Any

    @property
    def name(self) -> str:
        return next(str(step) for step in reversed(self.path) if isinstance(step, str))

    @property
    def is_tensor(self) -> bool:
        return isinstance(self.value, Tensor)

    @property
    def is_number(self) -> bool:
        return isinstance(self.value, (int, float)) and not isinstance(self.value, bool)


def leaves(arguments: Mapping[str, Any]) -> list[Leaf]:
    """Raises `Refused` for an argument that could hold tensors out of sight."""
    return [leaf for name, value in arguments.items() for leaf in _walk((name,), value)]


def _walk(path: tuple[Hashable, ...], value: Any) -> Iterator[Leaf]:
    if torch_private.is_wrapper(value):
        yield Leaf((*path, "wrapping"), repr(torch_private.Wrapping.of(value)))
        value = torch_private.inner(value)
    if isinstance(value, (Tensor, *_VALUES)):
        yield Leaf(path, value)
        return
    if len(path) > _DEEPEST or isinstance(value, nn.Module) or callable(value):
        raise Refused(f"the argument {path[0]} holds a {type(value).__name__}, which may hold tensors out of sight")
    yield Leaf((*path, "type"), type(value))
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif hasattr(value, "__dict__"):
        items = list(vars(value).items())
    else:
        raise Refused(f"the argument {path[0]} holds a {type(value).__name__}, which may hold tensors out of sight")
    for step, held in items:
        yield from _walk((*path, step), held)
