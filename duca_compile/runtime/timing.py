"""How long steps take, where somebody asks: measuring makes the host wait for the device after every step."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

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
def timed(compiled: CompiledRecipe, given: Sequence[Any]) -> Iterator[None]:
    """Notes how long the block takes that runs the graph on what is `given`, where somebody asks and it is compiled
    already."""
    if not _asked or not compiled.is_compiled:
        yield
        return
    _wait(given)
    began = time.perf_counter()
    yield
    _wait(given)
    compiled.seconds += time.perf_counter() - began
    compiled.timed += 1


def _wait(given: Sequence[Any]) -> None:
    accelerator = torch.accelerator.current_accelerator()
    for device in {each.device for each in given if isinstance(each, Tensor)}:
        if accelerator is not None and device.type == accelerator.type:
            torch.accelerator.synchronize(device)
