"""What one call of a split forward pass executes, in FLOPs: in its graphs, and in the Python between them."""

import operator
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from duca_compile import torch_private
from duca_compile.cost.flops import Executed
from duca_compile.methods.base import FULL
from duca_compile.runtime.partly import LOOK
from duca_compile.runtime.split.part import RETURNED, Part

_BREAKS = (
    "only what lies in one graph with its residual addition can be cached. TORCH_LOGS=graph_breaks shows where the "
    "breaks are; with torch._dynamo.config.capture_scalar_outputs = True and capture_dynamic_output_shape_ops = True "
    "some go away"
)


class Bill:
    """Kept while the call runs. What runs outside of its graphs runs in every recipe; it is counted as it is executed.

    Of the graphs it is counted from what they hold: the kernels that an inner compiler made of them tell nothing.
    """

    def __init__(self, recipes: Collection[str]) -> None:
        self._recipes = recipes
        self._graphs: Counter[str] = Counter()
        self._plain: Counter[str] = Counter()
        """In graphs that run as they are, by the last break before."""
        self._outside: Counter[str] = Counter()
        """The same of what runs outside of all graphs."""
        self._break = ""
        self._unknown = 0
        self._before = False
        self._now: Part | None = None
        self._executed = Executed()
        self._entered = False
        self._seen = 0

    def enter(self, part: Part, args: Sequence[Any]) -> None:
        """A graph begins."""
        if self._now is None:
            self._before = not part.opens_call
        self._pause()
        self._now = part
        flops = part.flops(args)
        self._unknown += flops is None
        self._graphs.update(flops or {})
        if part.plan is None and flops:
            self._plain[self._break] += flops[FULL]

    def leave(self) -> None:
        """The graph has ended: what follows runs outside of all."""
        if self._now is not None and self._now.ended_by != RETURNED:
            self._break = self._now.ended_by
        self._seen = self._executed.flops
        if not self._entered:
            self._executed.__enter__()  # type: ignore[no-untyped-call]
            self._entered = True

    def close(self) -> None:
        """At the end of the call."""
        self._pause()

    def _pause(self) -> None:
        """Where the model has entered a dispatch mode of its own meanwhile, ours stays below it, and is not read."""
        if self._entered and self._now is not None:
            self._outside[self._break] += self._executed.flops - self._seen
            self._seen = self._executed.flops
            if torch_private.current_dispatch_mode() is self._executed:
                self._executed.__exit__(None, None, None)  # type: ignore[no-untyped-call]
                self._entered = False

    @property
    def flops(self) -> dict[str, int] | None:
        """By each recipe; None where the cost of a graph is not known."""
        if self._unknown or self._executed.unknown:
            return None
        return {name: self._graphs[name] + self._outside.total() for name in self._recipes}

    @property
    def advice(self) -> str:
        """What to do about that which costs most in every recipe."""
        full = max(1, self._graphs[FULL] + self._outside.total())
        plain, outside = self._plain.total(), self._outside.total()
        rest = min(self._graphs[name] for name in self._recipes) - plain
        if rest > plain + outside:
            return f"{rest / full:.0%} run in its graphs beside the branches that are cached; {LOOK}"
        last = max({"": 0, **(self._plain + self._outside)}.items(), key=operator.itemgetter(1))[0]
        after = f", most of it after a break ({last})" if last else ""
        shares = f"{outside / full:.0%} run outside of its graphs, {plain / full:.0%} in graphs without a branch"
        return f"{shares}{after}; {_BREAKS}"

    def __str__(self) -> str:
        flops = self.flops
        if flops is None:
            what = f"{self._unknown} of the graphs" if self._unknown else "what runs outside of the graphs"
            return f"FLOPs are not counted: the cost of {what} is not known"
        full = max(1, flops[FULL])
        shares = ", ".join(sorted(f"{name} {cost / full:.1%}" for name, cost in flops.items()))
        more = " or more, as what runs before the first graph is not counted" if self._before else ""
        outside = f"{self._outside.total() / full:.1%} run outside of the graphs, in every recipe"
        return f"FLOPs as a share of a full step: {shares}{more}; {outside}"
