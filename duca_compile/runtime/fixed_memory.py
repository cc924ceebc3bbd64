"""Memory that stays where it is, for caches that CUDA graphs read and write.

A CUDA graph knows addresses: it is recorded once for each set of them. So a trajectory is lent a set of tensors, and
gives it back when its cache is gone; the next trajectory then runs the graphs that are recorded already.
"""

import weakref

import torch
from torch import Tensor, fx

from duca_compile.generations import device_streams
from duca_compile.generations.trajectory import Cache
from duca_compile.graph import ir
from duca_compile.plan.step_plan import Key, StepPlan


class FixedMemory:
    """Of one graph: a tensor for each value that is kept between steps; of a history, one for each of its values.

    As many sets as were lent at once stay, until `free`: what is recorded over a set that is gone never runs again.
    """

    def __init__(self, full: fx.GraphModule, plan: StepPlan) -> None:
        """`full`: the graph of the complete step `plan`, while its values are known."""
        held = {node.name: ir.value(node) for node in ir.placeholders(full.graph)}
        self._forms = {
            slot.key: [(held[name].shape, held[name].dtype, held[name].device) for name in plan.kept_of(slot)]
            for slot in plan.writes
        }
        self._lent: weakref.WeakKeyDictionary[Cache, Lent] = weakref.WeakKeyDictionary()
        self._spare: list[tuple[Lent, device_streams.Used]] = []
        _all.add(self)

    def of(self, cache: Cache, plan: StepPlan) -> list[list[Tensor]]:
        """What a step writes to, slot by slot, as `StepPlan.kept_of` orders it, of the set that is lent to this cache,
        from now on if it has none."""
        found = self._lent.get(cache)
        if found is None:
            found, cache.used = self._spare.pop() if self._spare else (self._made(), cache.used)
            self._lent[cache] = found
            weakref.finalize(cache, self._spare.append, (found, cache.used)).atexit = False
        cache.hand_over([tensor for memory in found.values() for tensor in memory])
        if plan.is_complete and not cache.kept:
            _clear_histories(found)
        return [found[slot.key] for slot in plan.writes]

    def free(self) -> None:
        """Drops what waits for the next trajectory."""
        self._spare.clear()

    def _made(self) -> "Lent":
        return {
            key: [torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in forms]
            for key, forms in self._forms.items()
        }


Lent = dict[Key, list[Tensor]]


def _clear_histories(lent: Lent) -> None:
    """Before the first full step: what is not known yet weighs 0 in a forecast, and must be a number."""
    for memory in lent.values():
        for tensor in memory if len(memory) > 1 else ():
            tensor.zero_()


_all: "weakref.WeakSet[FixedMemory]" = weakref.WeakSet()


def free_all() -> None:
    """Drops what waits in every compiled model of this process: memory has run out."""
    for memory in list(_all):
        memory.free()
