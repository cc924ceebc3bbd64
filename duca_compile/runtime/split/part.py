"""One graph of a forward pass that Dynamo split at graph breaks."""

import itertools
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.analysis.call_inputs import find_inputs
from duca_compile.capture.capture import Capture
from duca_compile.capture.flatten import Flatten
from duca_compile.cost import flops
from duca_compile.cost.flops import Operations
from duca_compile.generations.identity import WORDS, Probes
from duca_compile.graph import ir
from duca_compile.plan.plan import Plan
from duca_compile.refusal import warnings_after

log = logging.getLogger("duca_compile")
_serials = itertools.count()
RETURNED = "return_value"
"""What ends a graph at whose end its function returns: the break is in a function around it."""


class Part:
    """What is known of the graph `gm`. `plan` is None where it runs as it is, and `refusal` says why.

    The `args` of its calls are what `flatten` makes of them.

    `operations` are those of each recipe's graph. They are of use in one call, from whose costs the model's are told.
    Where one `ends_all`, no part of the same forward pass may be cached.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        flatten: Flatten,
        captured: Capture | None,
        plan: Plan | None,
        refusal: str = "",
        operations: Mapping[str, Operations] | None = None,
        ends_all: bool = False,
    ) -> None:
        self.serial = next(_serials)
        self.plan = plan
        self.refusal = refusal
        self.ends_all = ends_all
        self.ended_by = torch_private.break_reason(gm)
        self.opens_call = torch_private.opens_call()
        own = flatten.spread(ir.placeholders(gm.graph))
        self._weights = [at for at, node in enumerate(own) if torch_private.is_module_state(node)]
        self._others = [at for at in range(len(own)) if at not in set(self._weights)]
        self._timesteps = [] if captured is None else _timesteps(captured, plan)
        self.probes = Probes(WORDS // 8)
        """Of its weights, over which it may run several times in a forward pass."""
        self._operations = operations or {}
        self._sizes = {} if captured is None else captured.symbols

    def flops(self, args: Sequence[Any]) -> dict[str, int] | None:
        """Of this run, in each recipe; None where they cannot be counted."""
        sizes = {symbol: args[at] for symbol, at in self._sizes.items()}
        return flops.per_recipe(self._operations, sizes)

    def weights(self, args: Sequence[Any]) -> list[Tensor]:
        return [args[at] for at in self._weights if isinstance(args[at], Tensor)]

    def timesteps(self, args: Sequence[Any]) -> list[Tensor]:
        return [args[at] for at in self._timesteps]

    def tensors(self, args: Sequence[Any]) -> list[Tensor]:
        """All that are no weights."""
        return [args[at] for at in self._others if isinstance(args[at], Tensor)]

    def sizes(self, args: Sequence[Any]) -> tuple[Hashable, ...]:
        """Sizes and scalars, where they matter: what runs as it is has nothing to keep apart by them."""
        return () if self.plan is None else tuple(args[at] for at in self._others if not isinstance(args[at], Tensor))

    def __str__(self) -> str:
        found = f"not accelerated, {self.refusal}" if self.plan is None else f"{len(self.plan.branches)} branches"
        return f"{found} (ended by: {self.ended_by})"


def _timesteps(captured: Capture, plan: Plan | None) -> list[int]:
    """The plan knows them already; where there is none, the graph may still be the one that embeds them."""
    try:
        inputs = plan.facts.inputs if plan else find_inputs(captured.gm.graph, captured.arguments)
        names = inputs.timesteps
    except Exception:
        log.debug("no timestep is known of a part", exc_info=True)
        return []
    return [at for at, name in enumerate(captured.signature.call) if name in names]


class Bystander(Protocol):
    """Is told of a part that runs as it is."""

    def pass_by(self, args: Sequence[Any]) -> Callable[[Any], None]:
        """Returns what is to be called with the results, or with nothing if it fails."""


class PlainPart:
    """A graph that runs as the inner compiler made it, and says that it did: others may rely on what it computes."""

    def __init__(self, run: Callable[..., Any], flatten: Flatten, told: Bystander) -> None:
        self._run = run
        self._flatten = flatten
        self._told = told

    def __call__(self, *args: Any) -> Any:
        with warnings_after(), self._flatten.as_in_graph():
            leave = self._told.pass_by(self._flatten(args))
            results: Any = ()
            try:
                results = self._run(*args)
            finally:
                leave(results)
        return results
