"""Whether tensors are the ones seen before: the same objects, in the same memory, not written to since."""

import weakref
from collections.abc import Callable, Hashable, Sequence

from torch import Tensor


class Identity:
    """`key` differs where an object, its memory or its version does.

    Objects that died leave their `id` and memory to others: two identities with one key are the same only if
    `is_same` says so too.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.key: Hashable = hash(tuple((id(tensor), _address(tensor), version(tensor)) for tensor in tensors))
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


def _address(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor subclass without memory of its own
        return None
