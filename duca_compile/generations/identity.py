"""Whether tensors are the ones seen before: the same objects, in the same memory, not written to since.

Writes that torch counts are always seen. Writes through `tensor.data`, through numpy, or to tensors of inference mode
are not counted (peft fuses LoRA weights so, and EMA weights are copied so): what they change is seen at once where

- the tensor is small: of up to `WORDS` 8-byte words in all every one is read, of more all of the smallest tensors';
- the first element is among it, or twice as many elements in a row as lie between two of the places that are looked at
  in a larger tensor, of which there are at least `FEWEST`: a block of rows, or nearly all changes of many elements.

A few elements of a large tensor are not seen, nor is memory on a device read, since the host would wait for it. What
was not seen is read by the next FULL step, `cycle` - 1 steps later at most: to look elsewhere at every step would
hardly see it sooner.
"""

import ctypes
import operator
import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from duca_compile import torch_private

WORDS = 8192
"""8-byte words that are read at each call, of all tensors together; a quarter where they lie far apart."""
FEWEST = 8
"""Places in each tensor that are looked at, however many tensors there are."""
_FEW = 512
"""Words where nobody keeps the probes from one call to the next: they are made anew each time."""
_KEPT = 16 * WORDS
"""Words that are remembered, of all sets of tensors together."""
_GOLDEN = (5**0.5 - 1) / 2


class Probes:
    """Reads words of each tensor in host memory, fast where they lie where they lay at one of the last calls.

    Sizes and strides of tensors at the same addresses must stay: for the weights of a graph, Dynamo's guards see to it.
    """

    def __init__(self, words: int = WORDS) -> None:
        self._words = words
        self._known: dict[tuple[int | None, ...], _Words | None] = {}

    def read(self, tensors: Sequence[Tensor], addresses: Sequence[int | None]) -> int:
        """`addresses` are where the tensors lie now: memory that is theirs, and so can be read."""
        key = tuple(addresses)
        if key not in self._known:
            if self._words * len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = _words(tensors, addresses, self._words)
        words = self._known[key]
        return 0 if words is None else words.digest()


class _Words:
    """Aligned 8-byte words of memory, each by its address in words. It does not keep the memory."""

    def __init__(self, words: Tensor) -> None:
        first, last = int(words.min()), int(words.max())
        memory = (ctypes.c_char * (8 * (last - first + 1))).from_address(8 * first)
        self._memory = torch.frombuffer(memory, dtype=torch.int64)
        self._index = words - first
        self._seen: Tensor | None = None
        self._digest = 0

    def digest(self) -> int:
        """Another one where a word has changed."""
        seen = self._memory.index_select(0, self._index)
        if self._seen is None or not seen.equal(self._seen):
            self._seen, self._digest = seen, hash(ctypes.string_at(seen.data_ptr(), seen.nbytes))
        return self._digest


class State(NamedTuple):
    """The `tensors` of a call, where they lie, how often each was written to, and what is probed of them."""

    tensors: Sequence[Tensor]
    addresses: list[int | None]
    versions: list[int | None]
    probed: int

    @property
    def key(self) -> Hashable:
        """Differs where a tensor is another one or in another state; the same may be said of a dead tensor's."""
        return hash((*map(id, self.tensors), *self.addresses, *self.versions, self.probed))


def state(tensors: Sequence[Tensor], probes: Probes | None = None) -> State:
    """As they are now."""
    addresses = _addresses(tensors)
    return State(tensors, addresses, torch_private.versions(tensors), (probes or Probes(_FEW)).read(tensors, addresses))


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


def address(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor subclass without memory of its own
        return None


def _addresses(tensors: Sequence[Tensor]) -> list[int | None]:
    try:
        return [tensor.data_ptr() for tensor in tensors]
    except RuntimeError:
        return [address(tensor) for tensor in tensors]


def _words(tensors: Sequence[Tensor], addresses: Sequence[int | None], budget: int) -> _Words | None:
    """About `budget` of tensors at these addresses; None where nothing lies in host memory."""
    legible = [(at, tensor) for tensor, at in zip(tensors, addresses, strict=True) if at and _is_legible(tensor)]
    shares = _shares([tensor.nbytes // 8 + 1 for _, tensor in legible], budget)
    found = [
        _places(tensor.shape, tensor.stride(), tensor.itemsize, at % 8, share) + at // 8
        for (at, tensor), share in zip(legible, shares, strict=True)
    ]
    return _Words(torch.cat(found)) if found else None


def _is_legible(tensor: Tensor) -> bool:
    return tensor.is_cpu and tensor.layout is torch.strided


def _shares(sizes: Sequence[int], budget: int) -> list[int]:
    """Of the budget, what each tensor of `sizes` words gets: all of the small ones, as many of all others."""
    left, shares = budget, [0] * len(sizes)
    for done, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[at] = min(sizes[at], max(FEWEST, left // (len(sizes) - done)))
        left -= shares[at]
    return shares


@lru_cache(256)
def _places(shape: torch.Size, strides: tuple[int, ...], itemsize: int, start: int, share: int) -> Tensor:
    """Which words to read of a tensor that begins at byte `start` of word 0: all, or a quarter of its `share`.

    Their distances are even but for a shift that no pattern of rows and columns follows; the first element is in one.
    """
    count, few = shape.numel(), max(FEWEST, share // 4)
    everywhere = itemsize * count < 8 * share
    found = range(count) if everywhere else [int((at + at * _GOLDEN % 1) * count / few) for at in range(few)]
    elements = torch.tensor(found, device="cpu")
    places = torch.full_like(elements, start)
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        places += elements % size * (stride * itemsize)
        elements //= size
    words = torch.cat([places, places + itemsize - 1]).div(8, rounding_mode="floor")
    read: Tensor = words.unique()  # type: ignore[no-untyped-call]
    return read
