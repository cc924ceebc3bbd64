"""The calling convention of a step's graph: what it takes and what it gives, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Signature:
    """Of one step, or of a capture, where nothing is added yet.

    Names of inputs, in order: tensors that the captured graph held itself (`constants`), the `call`'s own, then what
    the dispatcher adds: caches that the step `reads`, tokens that were drawn, the `weights` of a history, `memory` that
    stays for what the step leaves, what is `carried` over from a graph that ran before. Results are the call's
    own, then `returned` values for the cache.
    """

    constants: tuple[str, ...]
    call: tuple[str, ...]
    reads: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    returned: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        added = self.reads, self.draws, self.weights, self.memory, self.carried
        return tuple(self.pack(self.constants, self.call, *added))

    def pack(
        self,
        constants: Sequence[Item],
        call: Sequence[Item],
        reads: Sequence[Item] = (),
        draws: Sequence[Item] = (),
        weights: Sequence[Item] = (),
        memory: Sequence[Item] = (),
        carried: Sequence[Item] = (),
    ) -> list[Item]:
        """What the graph is called with."""
        return [*constants, *call, *reads, *draws, *weights, *memory, *carried]

    def with_call(self, inputs: Sequence[Any], call: Sequence[Any]) -> list[Any]:
        """All `inputs` of a graph, with those of the call replaced."""
        first, last = len(self.constants), len(self.constants) + len(self.call)
        return [*inputs[:first], *call, *inputs[last:]]

    def own(self, results: Sequence[Item]) -> Sequence[Item]:
        """Of all results, the call's own."""
        return results[: len(results) - self.returned]

    def stored(self, results: Sequence[Item]) -> Sequence[Item]:
        """Of all results, those for the cache."""
        return results[len(results) - self.returned :]
