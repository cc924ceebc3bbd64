"""Whether tensors are the ones seen before: the same objects, in the same memory, not written to since."""

import ctypes
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from torch import Tensor

_PROBED = 16
"""Bytes of each tensor that are looked at."""


class Probes:
    """Reads a few bytes from the middle of each tensor in host memory, fast where they lie where they lay before.

    Writes through `tensor.data` leave the version as it is (peft fuses LoRA weights so, and EMA weights are copied so),
    but change these bytes.

    Sizes and strides of the tensors must stay: for the weights of a graph, Dynamo's guards see to that.
    """

    def __init__(self) -> None:
        self._addresses: list[int | None] = []
        self._windows: list[Any] = []

    def read(self, tensors: Sequence[Tensor], addresses: list[int | None]) -> tuple[bytes, ...]:
        """`addresses` are where the tensors lie now: memory that is theirs, and so can be read."""
        if addresses != self._addresses:
            self._windows = [
                _window(start, tensor) for tensor, start in zip(tensors, addresses, strict=True) if _is_legible(tensor)
            ]
            self._addresses = addresses
        return tuple([window.raw for window in self._windows])


class Identity:
    """`key` differs where an object, its memory, its version or what is probed of it does.

    Objects that died leave their `id` and memory to others: two identities with one key are the same only if
    `is_same` says so too.
    """

    def __init__(self, tensors: Sequence[Tensor], probes: Probes | None = None) -> None:
        addresses = [address(tensor) for tensor in tensors]
        versions = [version(tensor) for tensor in tensors]
        probed = (probes or Probes()).read(tensors, addresses)
        self.key: Hashable = hash((*map(id, tensors), *addresses, *versions, probed))
        self._tensors = tuple(map(weakref.ref, tensors))

    def is_same(self, other: "Identity | None") -> bool:
        if other is None or self.key != other.key:
            return False
        return all(mine() is its() for mine, its in zip(self._tensors, other._tensors, strict=True))

    def watch(self, died: Callable[[object], None]) -> None:
        """Calls `died` when the first of the tensors does."""
        alive = [tensor for ref in self._tensors if (tensor := ref()) is not None]
        self._tensors = tuple(weakref.ref(tensor, died) for tensor in alive)


def version(tensor: Tensor) -> int | None:
    """How often it was written to; None where nobody counts (inference mode)."""
    return None if tensor.is_inference() else tensor._version


def address(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor subclass without memory of its own
        return None


def _is_legible(tensor: Tensor) -> bool:
    return bool(address(tensor)) and tensor.is_cpu and tensor.is_contiguous()


def _window(start: int | None, tensor: Tensor) -> Any:
    """Where `raw` reads the bytes in the middle of the tensor as they are then. It does not keep the memory."""
    assert start is not None
    size = min(tensor.nbytes, _PROBED)
    middle = tensor.nbytes // 2 if tensor.nbytes >= 2 * _PROBED else 0
    return (ctypes.c_char * size).from_address(start + middle)
