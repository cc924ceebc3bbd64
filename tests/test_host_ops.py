"""How little a step asks of torch beside its graph: each op takes the host microseconds, at every step of every model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

import duca_compile
from duca_compile import Mode
from duca_compile.backend import duca
from zoo.case import noise
from zoo.core import example_dit

LATENTS = ["as_strided", "_to_copy"]
"""Picked and copied: nobody else writes to the copy."""
WEIGHTS = ["index_select", "equal"]
"""Words of them, as at the call before. Where they lie the first call finds out."""
OUTPUT = ["as_strided", "_to_copy"]
"""The next latents may be made of it."""
TOKENS = ["rand", "topk", "sort", "constant_pad_nd", "slice", "view", "unbind"]
"""For many steps at once, each row where a kernel may read 16 bytes at a time."""


class Ops(TorchDispatchMode):
    """Names the ops that are dispatched, but for those of the graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._inside:
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    def inner(self, gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """Stands for the inner compiler."""

        def run(*args: Any) -> Any:
            self._inside = True
            found = gm.forward(*args)
            self._inside = False
            return found

        return run


def test_the_ops_of_each_mode() -> None:
    ops, model = Ops(), example_dit()

    def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        dispatcher = duca(gm, inputs, options={"method": "duca", "inner": ops.inner, "strict": True})

        def run(*args: Any) -> Any:
            ops.found.clear()
            with ops:
                return dispatcher(*args)

        return run

    fast, labels = torch.compile(model, backend=backend), torch.tensor([1, 2])
    asked = []
    for step in range(8):
        fast(noise(2, 1, 8, 8) * (1 - 0.01 * step), torch.full((2,), 900.0 - 20 * step), labels)
        asked.append(list(ops.found))
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 3, Mode.AGGRESSIVE: 3}
    first, second, *others = asked
    assert (first[:2], first[-2:]) == (LATENTS, OUTPUT)
    assert second == LATENTS + WEIGHTS + TOKENS + OUTPUT
    assert others == [LATENTS + WEIGHTS + OUTPUT] * 6
