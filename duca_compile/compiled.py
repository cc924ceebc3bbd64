"""One mode's graph, compiled by the inner compiler at its first call."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

log = logging.getLogger("duca_compile")


class CompiledMode:
    """Calls the rewritten graph. `compile_seconds` is 0 until the first call."""

    def __init__(self, name: str, gm: fx.GraphModule, inner: Callable[..., Any]) -> None:
        self.name = name
        self.compile_seconds = 0.0
        self.calls = 0
        self._gm: fx.GraphModule | None = gm
        self._inner = inner
        self._run: Callable[..., Any] | None = None

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        if self._run is None:
            self._compile(inputs)
        assert self._run is not None
        self.calls += 1
        return list(self._run(*inputs))

    def _compile(self, inputs: Sequence[Any]) -> None:
        """The graph's fake values belong to the capture; the inner compiler makes its own from the real inputs."""
        assert self._gm is not None
        for node in self._gm.graph.nodes:
            node.meta.pop("val", None)
        started = time.perf_counter()
        self._run = self._inner(self._gm, list(inputs))
        self._gm = None
        self.compile_seconds = time.perf_counter() - started
        log.info("compiled the %s graph in %.1f s", self.name, self.compile_seconds)
