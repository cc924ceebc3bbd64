"""One graph, compiled by the inner compiler at its first call or before."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.capture import autocast
from duca_compile.plan.own_keywords import shortly
from duca_compile.refusal import REPORT, shown_not_raised
from duca_compile.runtime.compile_line import Turns, saying
from duca_compile.runtime.failures import is_out_of_memory

log = logging.getLogger("duca_compile")


class CompiledPlain:
    """Dynamo's own graph, compiled as the inner compiler alone would: once for each set of sizes."""

    def __init__(self, gm: fx.GraphModule, inner: Callable[..., Any]) -> None:
        self._gm = gm
        self._inner = inner
        self._known: dict[tuple[Any, ...], CompiledRecipe] = {}

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        numbers = tuple(given for given in inputs if not isinstance(given, Tensor))
        if numbers not in self._known:
            self._known[numbers] = CompiledRecipe("plain", [self._gm], self._inner)
        return self._known[numbers](inputs)


class CompiledRecipe:
    """Calls the rewritten graph, with autocast off on the devices named. `compile_seconds` is 0 before the first.

    Of its calls, `timed` ones took `seconds` (`timing.py`). `forms` are the same graph in one form or several, of which
    the first that the inner compiler takes is used.
    """

    def __init__(
        self,
        name: str,
        forms: Sequence[fx.GraphModule],
        inner: Callable[..., Any],
        autocast_off: tuple[str, ...] = (),
        turns: Turns | None = None,
    ) -> None:
        self.name = name
        self._turns = turns or Turns(1)
        self._autocast_off = autocast_off
        self.compile_seconds = 0.0
        self.calls = 0
        self.seconds = 0.0
        self.timed = 0
        self._forms = tuple(forms)
        self._inner = inner
        self._run: Callable[..., Any] | None = None

    @property
    def is_compiled(self) -> bool:
        return self._run is not None

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        if self._run is None:
            self.compile(inputs)
        assert self._run is not None
        self.calls += 1
        with autocast.off(self._autocast_off):
            return list(self._run(*inputs))

    def compile(self, inputs: Sequence[Any]) -> None:
        """The graph's fake values belong to the capture; the inner compiler makes its own from the inputs."""
        started = time.perf_counter()
        with saying(self._turns.told(self.name)):
            self._compile(inputs)
        self._forms = ()
        self.compile_seconds = time.perf_counter() - started
        log.info("compiled the %s graph in %.1f s", self.name, self.compile_seconds)

    def _compile(self, inputs: Sequence[Any]) -> None:
        form, *others = self._forms
        _drop_values(form)
        try:
            with autocast.off(self._autocast_off), shown_not_raised():
                self._run = _function(self._inner(form, list(inputs)))
        except Exception as error:
            if not others or isinstance(error, torch_private.RestartAnalysis) or is_out_of_memory(error):
                raise
            log.warning(
                "the %s graph does not compile in the form that suits Inductor, and takes a plainer one; %s",
                self.name,
                REPORT,
                exc_info=True,
            )
            self._forms = tuple(others)
            self._compile(inputs)


def _function(given: Any) -> Callable[..., Any]:
    """Raises `TypeError` where a user's compiler gave none."""
    if not callable(given):
        raise TypeError(
            f"the compiler of the option inner gave {shortly(given)}; it must return a function of the graph's inputs"
        )
    run: Callable[..., Any] = given
    return run


def _drop_values(root: fx.GraphModule) -> None:
    for gm in root.modules():
        if isinstance(gm, fx.GraphModule):
            for node in gm.graph.nodes:
                node.meta.pop("val", None)
