"""What a cached step hands to the caller: memory of its own, laid out and shared as the full step's results are."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """How a result lies in memory, and its place among the results."""

    place: int
    strides: tuple[int, ...]
    offset: int


Layout = Sequence[Sequence[Form]]
"""Of tensors among the results; those that share memory are together."""


def layout(results: Sequence[Any]) -> Layout:
    found: dict[int, list[Form]] = {}
    for place, result in enumerate(results):
        if isinstance(result, Tensor):
            form = Form(place, result.stride(), int(result.storage_offset()))
            found.setdefault(_address(result) or -1 - place, []).append(form)
    return list(found.values())


def memory(tensors: Iterable[Tensor]) -> frozenset[int]:
    """The addresses of the tensors' storages."""
    return frozenset(map(_address, tensors))


def delivered(results: Sequence[Any], wanted: Layout, kept: frozenset[int]) -> tuple[Any, ...]:
    """The results, copied where they lie in memory that is `kept` for later steps or are not laid out as `wanted`.

    A model without an op after its last block returns a cached value itself: the caller may write to its result, and
    the next step writes to the cache. What the caller writes to one result, views of it among the others show.
    """
    return _with_copies(results, [forms for forms in wanted if not _lie_so(_those(results, forms), forms, kept)])


def owned(results: Sequence[Any], viewed: Iterable[Tensor] = ()) -> tuple[Any, ...]:
    """Copies, of what lies in memory that the next run of a CUDA graph writes to: all but views of what is `viewed`."""
    theirs = memory(viewed)
    return _with_copies(
        results, [forms for forms in layout(results) if _address(results[forms[0].place]) not in theirs]
    )


def _with_copies(results: Sequence[Any], copied: Layout) -> tuple[Any, ...]:
    """The results, but copies where they are of these forms."""
    found = list(results)
    for forms in copied:
        for form, copy in zip(forms, _copied(_those(results, forms), forms), strict=True):
            found[form.place] = copy
    return tuple(found)


def _those(results: Sequence[Any], forms: Sequence[Form]) -> list[Tensor]:
    return [results[form.place] for form in forms]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _lie_so(results: Sequence[Tensor], forms: Sequence[Form], kept: frozenset[int]) -> bool:
    """Whether they do already, in one memory that is not `kept`."""
    first, where = results[0], _address(results[0])
    shift = first.storage_offset() - forms[0].offset
    return where not in kept and all(
        result.stride() == form.strides
        and (result is first or (_address(result) == where and result.storage_offset() - form.offset == shift))
        for result, form in zip(results, forms, strict=True)
    )


def _copied(results: Sequence[Tensor], forms: Sequence[Form]) -> list[Tensor]:
    """Into new memory, which results of one type share."""
    if len({result.dtype for result in results}) > 1:
        return [_copied([result], [form])[0] for result, form in zip(results, forms, strict=True)]
    begin = min(form.offset for form in forms)
    end = max(form.offset + _extent(result, form) for result, form in zip(results, forms, strict=True))
    whole = torch.empty(end - begin, dtype=results[0].dtype, device=results[0].device)
    copies = []
    for result, form in zip(results, forms, strict=True):
        copy = whole.as_strided(result.shape, form.strides, form.offset - begin)
        _fill(copy, result)
        copies.append(copy)
    return copies


def _extent(result: Tensor, form: Form) -> int:
    """Elements from the first to the last."""
    steps = sum((size - 1) * stride for size, stride in zip(result.shape, form.strides, strict=True))
    return 1 + steps if result.numel() else 0


def _fill(copy: Tensor, result: Tensor) -> None:
    """Of what is expanded, one element is written."""
    for dim, stride in enumerate(copy.stride()):
        if stride == 0 and copy.shape[dim] > 1:
            copy, result = copy.narrow(dim, 0, 1), result.narrow(dim, 0, 1)
    copy.copy_(result)
