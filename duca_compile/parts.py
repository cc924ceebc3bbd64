"""One graph of a forward pass that Dynamo split at graph breaks."""

import itertools
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from torch import Tensor, fx

from duca_compile import cost, ir, torch_private
from duca_compile.capture import Capture
from duca_compile.identity import WORDS, Probes
from duca_compile.inputs import find_inputs
from duca_compile.modes import Mode
from duca_compile.plan import Plan

log = logging.getLogger("duca_compile")
_serials = itertools.count()


class Part:
    """What is known of the graph `gm`. `plan` is None where it runs as it is, and `refusal` says why.

    Where one `is_random`, no part of the same forward pass may be cached.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        captured: Capture | None,
        plan: Plan | None,
        refusal: str = "",
        is_random: bool = False,
    ) -> None:
        self.serial = next(_serials)
        self.plan = plan
        self.refusal = refusal
        self.is_random = is_random
        self._ended_by = torch_private.break_reason(gm)
        own = ir.placeholders(gm.graph)
        self._weights = [at for at, node in enumerate(own) if torch_private.is_module_state(node)]
        self._others = [at for at in range(len(own)) if at not in set(self._weights)]
        self._timesteps = [] if captured is None else _timesteps(captured, plan)
        self.probes = Probes(WORDS // 8)
        """Of its weights, over which it may run several times in a forward pass."""
        self.flops = _flops(captured, plan) if log.isEnabledFor(logging.INFO) else {}

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
        return f"{found} (ended by: {self._ended_by})"


def _timesteps(captured: Capture, plan: Plan | None) -> list[int]:
    """The plan knows them already; where there is none, the graph may still be the one that embeds them."""
    try:
        inputs = plan.facts.inputs if plan else find_inputs(captured.gm.graph, captured.arguments)
        names = inputs.timesteps
    except Exception:
        log.debug("no timestep is known of a part", exc_info=True)
        return []
    own = ir.placeholders(captured.gm.graph)[len(captured.constants) :]
    return [at for at, node in enumerate(own) if node.name in names]


def _flops(captured: Capture | None, plan: Plan | None) -> dict[Mode, int]:
    """Per mode, the same for all where the graph runs as it is. Empty where sizes are symbolic."""
    if captured is None or captured.symbols:
        return {}
    try:
        return cost.flops_per_mode(captured, plan) if plan else dict.fromkeys(Mode, cost.count_flops(captured.gm))
    except Exception:
        log.debug("the cost of a part could not be counted", exc_info=True)
        return {}


class Bystander(Protocol):
    """Is told of a part that runs as it is."""

    def pass_by(self, args: Sequence[Any]) -> None: ...

    def produced(self, results: Sequence[Any]) -> None: ...


class PlainPart:
    """A graph that runs as the inner compiler made it, and says that it did: others may rely on what it computes."""

    def __init__(self, run: Callable[..., Any], told: Bystander) -> None:
        self._run = run
        self._told = told

    def __call__(self, *args: Any) -> Any:
        self._told.pass_by(args)
        results = self._run(*args)
        self._told.produced(results)
        return results
