"""The inputs of a call as plain tensors: those that wrap others, such as quantised weights, taken apart."""

import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from duca_compile import torch_private

Item = TypeVar("Item")


@dataclass(frozen=True)
class Flatten:
    """Of one graph's inputs. `parts`: how to get at the tensors in each, which Dynamo's guards hold fast, none of a
    mesh of processes; None for a plain input. `own_functions`: whether some run Python of their own instead of torch's
    functions."""

    parts: tuple[tuple[Callable[[Any], Any], ...] | None, ...]
    own_functions: bool = False

    @staticmethod
    def like(inputs: Iterable[Any]) -> "Flatten":
        """For calls with inputs like these."""
        given = tuple(inputs)
        return Flatten(tuple(map(_parts, given)), any(map(torch_private.overrides_functions, map(type, given))))

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The very tensors that the inputs hold: what is written to them is seen."""
        if not self._is_needed:
            return inputs
        flat: list[Any] = []
        for given, parts in zip(inputs, self.parts, strict=True):
            if parts is None:
                flat.append(given)
            else:
                flat += [part(given) for part in parts]
        return flat

    def as_in_graph(self) -> AbstractContextManager[object]:
        """A context in which the inputs are to torch's functions what they are in the graph: plain tensors. Entered
        where it is needed alone: torch 2.14 loses custom operations that are traced within."""
        return torch_private.without_own_functions() if self.own_functions else nullcontext()

    def spread(self, items: Iterable[Item]) -> list[Item]:
        """One for each input, repeated for each of the tensors that stand in its place."""
        counts = (1 if parts is None else len(parts) for parts in self.parts)
        return [item for item, count in zip(items, counts, strict=True) for _ in range(count)]

    @cached_property
    def _is_needed(self) -> bool:
        return any(parts is not None for parts in self.parts)


def _parts(given: Any) -> tuple[Callable[[Any], Any], ...] | None:
    if torch_private.is_mesh(given):
        return ()
    if not torch_private.is_wrapper(given):
        return None
    return tuple(map(operator.attrgetter, torch_private.inner_paths(given)))
