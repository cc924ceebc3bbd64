"""What a cached step hands to the caller: memory of its own, laid out and shared as the full step's results are."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """How a result lies in memory. `shares`: the first of the results that lie there, by its place; its own, alone."""

    strides: tuple[int, ...]
    offset: int
    shares: int


Layout = tuple[Form | None, ...]


def layout(results: Sequence[Any]) -> Layout:
    """The form of each result; None for what is no tensor."""
    first: dict[int, int] = {}
    return tuple(
        Form(result.stride(), int(result.storage_offset()), first.setdefault(_address(result) or -1 - at, at))
        if isinstance(result, Tensor)
        else None
        for at, result in enumerate(results)
    )


def memory(tensors: Iterable[Tensor]) -> frozenset[int]:
    """The addresses of the tensors' storages."""
    return frozenset(map(_address, tensors))


def delivered(results: Sequence[Any], wanted: Layout, kept: frozenset[int]) -> tuple[Any, ...]:
    """The results, copied where they lie in memory that is `kept` for later steps or are not laid out as `wanted`.

    A model without an op after its last block returns a cached value itself: the caller may write to its result, and
    the next step writes to the cache. What the caller writes to one result, views of it among the others show.
    """
    found = list(results)
    for places, forms in _together(wanted):
        these = [results[at] for at in places]
        if not _lie_so(these, forms, kept):
            for at, copy in zip(places, _copied(these, forms), strict=True):
                found[at] = copy
    return tuple(found)


def owned(results: Sequence[Any], viewed: Iterable[Tensor] = ()) -> tuple[Any, ...]:
    """Copies, of what lies in memory that the next run of a CUDA graph writes to: all but views of what is `viewed`."""
    found, theirs = list(results), memory(viewed)
    for places, forms in _together(layout(results)):
        if _address(results[places[0]]) not in theirs:
            for at, copy in zip(places, _copied([results[at] for at in places], forms), strict=True):
                found[at] = copy
    return tuple(found)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _together(wanted: Layout) -> list[tuple[list[int], list[Form]]]:
    """The results that share memory, by their places, and their forms."""
    found: dict[int, tuple[list[int], list[Form]]] = {}
    for at, form in enumerate(wanted):
        if form is not None:
            places, forms = found.setdefault(form.shares, ([], []))
            places.append(at)
            forms.append(form)
    return list(found.values())


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
    for result, (strides, offset, _) in zip(results, forms, strict=True):
        copy = whole.as_strided(result.shape, strides, offset - begin)
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
