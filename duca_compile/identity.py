"""Whether tensors are the ones seen before: the same objects, in the same memory, not written to since."""

import ctypes
import operator
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

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

    def read(self, tensors: Sequence[Tensor], addresses: list[int | None]) -> bytes:
        """`addresses` are where the tensors lie now: memory that is theirs, and so can be read."""
        if addresses != self._addresses:
            self._windows = [
                _window(start, tensor) for tensor, start in zip(tensors, addresses, strict=True) if _is_legible(tensor)
            ]
            self._addresses = addresses
        return b"".join(self._windows)


class State(NamedTuple):
    """The `tensors` of a call, where they lie, how often each was written to, and what is probed of them."""

    tensors: Sequence[Tensor]
    addresses: list[int | None]
    versions: list[int | None]
    probed: bytes

    @property
    def key(self) -> Hashable:
        """Differs where a tensor is another one or in another state; the same may be said of a dead tensor's."""
        return hash((*map(id, self.tensors), *self.addresses, *self.versions, self.probed))


def state(tensors: Sequence[Tensor], probes: Probes | None = None) -> State:
    """As they are now."""
    addresses = _addresses(tensors)
    return State(tensors, addresses, _versions(tensors), (probes or Probes()).read(tensors, addresses))


class Identity:
    """Knows tensors again in the state that they were in. It does not keep them alive."""

    def __init__(self, seen: State) -> None:
        self._tensors = tuple(map(weakref.ref, seen.tensors))
        self._state = seen[1:]

    def is_of(self, seen: State) -> bool:
        if self._state != seen[1:]:
            return False
        known = [ref() for ref in self._tensors]
        return all(map(operator.is_, known, seen.tensors))

    def watch(self, died: Callable[[object], None]) -> None:
        """Calls `died` when the first of the tensors does."""
        self._tensors = tuple([ref if (held := ref()) is None else weakref.ref(held, died) for ref in self._tensors])


def version(tensor: Tensor) -> int | None:
    """How often it was written to; None where nobody counts (inference mode)."""
    return None if tensor.is_inference() else tensor._version


def address(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor subclass without memory of its own
        return None


def _versions(tensors: Sequence[Tensor]) -> list[int | None]:
    """Asks each tensor at once, and only where one has no version whether it has one."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [version(tensor) for tensor in tensors]


def _addresses(tensors: Sequence[Tensor]) -> list[int | None]:
    try:
        return [tensor.data_ptr() for tensor in tensors]
    except RuntimeError:
        return [address(tensor) for tensor in tensors]


def _is_legible(tensor: Tensor) -> bool:
    return bool(address(tensor)) and tensor.is_cpu and tensor.is_contiguous()


def _window(start: int | None, tensor: Tensor) -> Any:
    """Where `raw` reads the bytes in the middle of the tensor as they are then. It does not keep the memory."""
    assert start is not None
    size = min(tensor.nbytes, _PROBED)
    middle = tensor.nbytes // 2 if tensor.nbytes >= 2 * _PROBED else 0
    return (ctypes.c_char * size).from_address(start + middle)
