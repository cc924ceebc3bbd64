"""Tensors that are made of other tensors, such as quantised weights.

- `is_traceable_wrapper_subclass` of `torch.utils._python_dispatch`, and the protocol that it asks for:
  `__tensor_flatten__` and `__tensor_unflatten__`.
- `torch.distributed.tensor.DTensor` and all else of `torch.distributed`, known by the module that it is defined in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_wrapper(value: Any) -> bool:
    """Whether it is a tensor made of others."""
    return isinstance(value, Tensor) and is_traceable_wrapper_subclass(value)


def is_distributed(value: Any) -> bool:
    """Whether it is a tensor of which other processes hold a part."""
    return any(kind.__module__.startswith("torch.distributed.") for kind in type(value).__mro__)


def inner(value: Any) -> dict[str, Any]:
    """What a wrapper is made of, by the names of its attributes."""
    return {name: getattr(value, name) for name in value.__tensor_flatten__()[0]}


def inner_paths(value: Any) -> list[str]:
    """The dotted names of all plain tensors in a wrapper, at any depth, in the order of `inner_tensors`."""
    found: list[str] = []
    for name, part in inner(value).items():
        if is_wrapper(part):
            found += [f"{name}.{path}" for path in inner_paths(part)]
        elif isinstance(part, Tensor):
            found.append(name)
    return found


def inner_tensors(value: Any) -> list[Tensor]:
    """All plain tensors in a wrapper, at any depth; a plain tensor itself."""
    if not is_wrapper(value):
        return [value]
    return [tensor for part in inner(value).values() if isinstance(part, Tensor) for tensor in inner_tensors(part)]


@dataclass(frozen=True)
class Wrapping:
    """How a wrapper is made of plain tensors."""

    kind: Any
    parts: dict[str, "Wrapping | None"]
    """By attribute; None for a plain tensor."""
    context: Any
    size: Any
    stride: Any

    @staticmethod
    def of(value: Any) -> "Wrapping | None":
        """None for a plain tensor."""
        if not is_wrapper(value):
            return None
        names, context = value.__tensor_flatten__()
        parts = {name: Wrapping.of(getattr(value, name)) for name in names}
        return Wrapping(type(value), parts, context, value.size(), value.stride())

    def around(self, tensors: Iterator[Tensor]) -> Tensor:
        """Another one of the same kind, around the next of these, which are like its `inner_tensors`."""
        parts = {name: part.around(tensors) if part else next(tensors) for name, part in self.parts.items()}
        made: Tensor = self.kind.__tensor_unflatten__(parts, self.context, self.size, self.stride)
        return made
