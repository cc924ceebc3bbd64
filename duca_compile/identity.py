"""Whether tensors are the ones seen before: the same objects, in the same memory, not written to since."""

import ctypes
import weakref
from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

_PROBED = 16
"""Bytes of each tensor that are looked at."""


class Identity:
    """`key` differs where an object, its memory or its version does.

    Writes through `tensor.data` leave the version as it is (peft fuses LoRA weights so, and EMA swaps are written so).
    For tensors in host memory the key holds a few bytes from the middle of each, too, which such a write changes.

    Objects that died leave their `id` and memory to others: two identities with one key are the same only if
    `is_same` says so too.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.key: Hashable = hash(tuple([_state(tensor) for tensor in tensors]))
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


def _state(tensor: Tensor) -> tuple[Hashable, ...]:
    start = address(tensor)
    probe = b""
    if start and tensor.is_cpu and tensor.is_contiguous():
        size = tensor.nbytes
        probe = ctypes.string_at(start + (size // 2 if size >= 2 * _PROBED else 0), min(size, _PROBED))
    return id(tensor), start, version(tensor), probe
