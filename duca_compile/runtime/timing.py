"""How long steps take, where somebody asks: measuring makes the host wait for the device after every step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from duca_compile.runtime.compiled import CompiledRecipe

_asked: list[object] = []


@contextmanager
def timing() -> Iterator[None]:
    """Steps of all compiled models of this process are timed within the block: `stats(model).step_seconds`.

    A step is timed from the call of its graph to the end of its work, for which the host waits on a GPU; so it is for
    looking, not for serving.
    """
    asked = object()
    _asked.append(asked)
    try:
        yield
    finally:
        _asked.remove(asked)


@contextmanager
def timed(compiled: CompiledRecipe) -> Iterator[None]:
    """Notes how long the block takes, where somebody asks and the graph is compiled already."""
    if not _asked or not compiled.is_compiled:
        yield
        return
    _wait()
    began = time.perf_counter()
    yield
    _wait()
    compiled.seconds += time.perf_counter() - began
    compiled.timed += 1


def _wait() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
