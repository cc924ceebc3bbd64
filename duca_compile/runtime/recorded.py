"""Whether what was to run as CUDA graphs does."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from duca_compile import torch_private
from duca_compile.refusal import note_once

Compiled = Callable[..., Any]
NOT_RECORDED = (
    "duca asked for CUDA graphs of this model, and Inductor makes none (TORCH_LOGS=cudagraphs says why): its steps are "
    "right, and slower than without. mode='max-autotune-no-cudagraphs', or the option inductor_mode of that value, "
    "asks for none"
)


def told_if_not_recorded(inner: Compiled, owner: object) -> Compiled:
    """The inner compiler, of whose functions the first that runs without a CUDA graph is told of once for `owner`:
    Inductor decides that by itself, and not always with a word."""

    def compile_told(gm: fx.GraphModule, inputs: Sequence[Any]) -> Compiled:
        return _Watched(inner(gm, inputs), owner)

    return compile_told


class _Watched:
    def __init__(self, run: Compiled, owner: object) -> None:
        self._run, self._owner = run, owner
        self._has_run = False

    def __call__(self, *args: Any) -> Any:
        if self._has_run:
            return self._run(*args)
        before = torch_private.cuda_graphed_functions()
        found = self._run(*args)
        self._has_run = True
        if before is not None and torch_private.cuda_graphed_functions() == before:
            note_once(self._owner, NOT_RECORDED)
        return found
