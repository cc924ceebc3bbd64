"""What a cached step hands to the caller: memory of its own, laid out as the full step's results are."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Layout = tuple[tuple[int, ...] | None, ...]


def layout(results: Sequence[Any]) -> Layout:
    """The strides of each result; None for what is no tensor."""
    return tuple(result.stride() if isinstance(result, Tensor) else None for result in results)


def memory(tensors: Iterable[Tensor]) -> frozenset[int]:
    """The addresses of the tensors' storages."""
    return frozenset([tensor.untyped_storage().data_ptr() for tensor in tensors])


def delivered(results: Sequence[Any], wanted: Layout, kept: frozenset[int]) -> tuple[Any, ...]:
    """The results, copied where they lie in memory that is `kept` for later steps or are not laid out as `wanted`.

    A model without an op after its last block returns a cached value itself: the caller may write to its result, and
    the next step writes to the cache.
    """
    return tuple(
        result if strides is None else _delivered(result, strides, kept)
        for result, strides in zip(results, wanted, strict=True)
    )


def owned(results: Sequence[Any]) -> tuple[Any, ...]:
    """Copies, of what lies in memory that the next run of a CUDA graph writes to."""
    return tuple(result.clone() if isinstance(result, Tensor) else result for result in results)


def _delivered(result: Tensor, strides: tuple[int, ...], kept: frozenset[int]) -> Tensor:
    is_own = result.untyped_storage().data_ptr() not in kept
    if is_own and result.stride() == strides:
        return result
    if any(stride == 0 and size > 1 for size, stride in zip(result.shape, strides, strict=True)):
        return result if is_own else result.clone()
    copy = torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device)
    return copy.copy_(result)
