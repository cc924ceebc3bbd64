"""Tensors that are made of other tensors, such as quantised weights.

- `is_traceable_wrapper_subclass` of `torch.utils._python_dispatch`, and the protocol that it asks for:
  `__tensor_flatten__` and `__tensor_unflatten__`.
- `torch.distributed.tensor.DTensor`, `torch.distributed.device_mesh.DeviceMesh` and all else of `torch.distributed`,
  known by the module that it is defined in.
- `FakeScriptObject` and its `real_obj`: what stands for a mesh of processes in a Dynamo graph, and the mesh.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch._library.fake_class_registry import FakeScriptObject
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_wrapper(value: Any) -> bool:
    """Whether it is a tensor made of others."""
    return isinstance(value, Tensor) and is_traceable_wrapper_subclass(value)


def belongs_to_others(value: Any) -> bool:
    """Whether it is a tensor of `torch.distributed` of which the parts of other processes are not told by a mesh."""
    kinds = type(value).__mro__
    is_distributed = any(kind.__module__.startswith("torch.distributed.") for kind in kinds)
    return is_distributed and not any(_full_name(kind) == "torch.distributed.tensor.DTensor" for kind in kinds)


def is_mesh(value: Any) -> bool:
    """Whether it is a mesh of processes, or stands for one in a graph. Dynamo's guards hold its numbers fast."""
    return _full_name(type(_real(value))) == "torch.distributed.device_mesh.DeviceMesh"


def _real(value: Any) -> Any:
    return value.real_obj if isinstance(value, FakeScriptObject) else value


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


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
    """All plain tensors in a wrapper, at any depth; a plain tensor itself; none of a mesh."""
    if is_mesh(value):
        return []
    if not is_wrapper(value):
        return [value]
    return [tensor for part in inner(value).values() if isinstance(part, Tensor) for tensor in inner_tensors(part)]


@dataclass(frozen=True)
class Constant:
    """What is no tensor, as a mesh of processes."""

    value: Any

    @staticmethod
    def of(value: Any) -> "Constant":
        return Constant(_real(value))

    def around(self, tensors: Iterator[Tensor]) -> Any:
        return self.value


@dataclass(frozen=True)
class Wrapping:
    """How a wrapper is made of plain tensors."""

    kind: Any
    parts: dict[str, "Wrapping | Constant | None"]
    """By attribute; None for a plain tensor."""
    context: Any
    size: Any
    stride: Any

    @staticmethod
    def of(value: Any) -> "Wrapping | Constant | None":
        """None for a plain tensor."""
        if is_mesh(value):
            return Constant.of(value)
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
