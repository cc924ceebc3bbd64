"""The inputs of a call as plain tensors: those that wrap others, such as quantised weights, taken apart."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from duca_compile import torch_private

Item = TypeVar("Item")


@dataclass(frozen=True)
class Flatten:
    """Of one graph's inputs. `parts`: how to get at the tensors in each, which Dynamo's guards hold fast; None for a
    plain input."""

    parts: tuple[tuple[Callable[[Any], Any], ...] | None, ...]

    @staticmethod
    def like(inputs: Iterable[Any]) -> "Flatten":
        """For calls with inputs like these."""
        return Flatten(tuple(map(_parts, inputs)))

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

    def spread(self, items: Iterable[Item]) -> list[Item]:
        """One for each input, repeated for each of the tensors that stand in its place."""
        counts = (1 if parts is None else len(parts) for parts in self.parts)
        return [item for item, count in zip(items, counts, strict=True) for _ in range(count)]

    @cached_property
    def _is_needed(self) -> bool:
        return any(parts is not None for parts in self.parts)


def _parts(given: Any) -> tuple[Callable[[Any], Any], ...] | None:
    if not torch_private.is_wrapper(given):
        return None
    return tuple(map(operator.attrgetter, torch_private.inner_paths(given)))
