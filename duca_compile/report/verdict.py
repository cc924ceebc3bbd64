"""What all that was found comes to: how much faster, at which memory, what was refused and what to do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from duca_compile.generations import sessions
from duca_compile.generations.long_steps import REACH, STRIDE
from duca_compile.methods.base import FULL
from duca_compile.plan.options import Options
from duca_compile.refusal import COUNT_THEM
from duca_compile.report.graph_report import GraphReport
from duca_compile.report.units import counted, saved_told
from duca_compile.runtime.partly import in_every_mode, is_partly


@dataclass(frozen=True)
class Verdict:
    """`outcome`: "wholly", "partly" (more than half of a full step runs in every recipe) or "not" accelerated.

    `sequence`: the recipe of each step of a generation; empty where the method decides at run time. FLOPs are of one
    generation: `flops` under these options, `plain_flops` of the model alone; None where they are not known.
    `elsewhere` is the share of a full step's FLOPs that lies outside of the graphs that are accelerated. Bytes:
    `cache_bytes` that one generation keeps; `peak_bytes` that a full step takes at once beside weights and inputs,
    caches among them, `plain_peak_bytes` the model alone. `refused` gives reasons, `advice` what to do.
    """

    outcome: str
    sequence: tuple[str, ...]
    flops: int | None
    plain_flops: int | None
    elsewhere: float
    cache_bytes: int
    peak_bytes: int
    plain_peak_bytes: int
    refused: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def speedup(self) -> float | None:
        """Of a generation, in FLOPs."""
        return self.plain_flops / self.flops if self.flops and self.plain_flops else None

    @property
    def steps(self) -> dict[str, int]:
        """How many of each recipe."""
        return dict(Counter(self.sequence))

    @property
    def headline(self) -> str:
        if self.outcome == "not":
            return "Not accelerated: every step is the model's own."
        if not self.sequence:
            return f"Accelerated {self.outcome}; which steps are full is decided at run time."
        if self.speedup is None:
            return f"Accelerated {self.outcome}; the FLOPs are not known."
        steps = counted(len(self.sequence), "step")
        return f"Accelerated {self.outcome}: {saved_told(self.speedup)} over {steps}."


def verdict_on(graphs: Sequence[GraphReport], options: Options, steps: int, executed: int | None) -> Verdict:
    """For generations of so many `steps`. `executed`: FLOPs of one forward pass, if known, those outside of graphs
    among them."""
    cached = [graph for graph in graphs if graph.plan is not None]
    sequence, remark = _sequence(cached, options, steps)
    names = {FULL, *sequence} if sequence else {name for graph in cached for name in graph.flops}
    costs = {name: sum(graph.runs * graph.flops[name] for graph in cached) for name in names if cached}
    full = costs.get(FULL, 0)
    plain = full if executed is None and len(cached) == len(graphs) else executed
    rest = max(0, (plain or 0) - full)
    by_recipe = {name: cost + rest for name, cost in costs.items()}
    share = in_every_mode(by_recipe) if by_recipe else 1.0
    outcome = _outcome(share, names - {FULL} if cached else set())
    known = plain is not None and bool(cached) and bool(sequence)
    return Verdict(
        outcome,
        sequence,
        sum(by_recipe[name] for name in sequence) if known else None,
        plain * steps if plain is not None else None,
        rest / plain if plain else 0.0,
        sum(graph.runs * graph.held_bytes for graph in cached),
        _peak(cached),
        max((graph.plain_step_bytes for graph in cached), default=0),
        _refused(graphs),
        (*remark, *_advice(graphs, outcome, share)),
    )


FAR = (
    f"Steps that are more than {REACH:.0%} of the way from the last full one are computed, too: expect less than this. "
    f"{COUNT_THEM}."
)


def _outcome(share: float, recipes: set[str]) -> str:
    """By the rule that the warning of a compiled model has."""
    if not recipes:
        return "not"
    return "partly" if is_partly(share) else "wholly"


def _sequence(cached: Sequence[GraphReport], options: Options, steps: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recipes of the steps, and what is to be said of them."""
    plan = next((graph.plan for graph in cached if graph.plan is not None), None)
    if plan is None:
        return (FULL,) * steps, ()
    if not options.are_cached:
        return (FULL,) * steps, ("These options cache no step: give a larger cycle.",)
    if steps * STRIDE < 1 and not sessions.counts():
        return (FULL,) * steps, (f"Generations of so few steps are computed wholly. {COUNT_THEM}.",)
    if plan.probing:
        return (), ("stats() tells how many steps were full.",)
    found = tuple(map(plan.name_of, plan.options.sequence(steps)))
    if _reach(found) > REACH * steps and not sessions.counts():
        return found, (FAR,)
    return found, ()


def _reach(sequence: Sequence[str]) -> int:
    """The furthest that a step lies from the last full one."""
    full = furthest = 0
    for at, name in enumerate(sequence):
        full = at if name == FULL else full
        furthest = max(furthest, at - full)
    return furthest


def _peak(cached: Sequence[GraphReport]) -> int:
    """Of a step, over all graphs: while one runs, the caches of the others are there, and what was stored earlier."""
    held = sum(graph.runs * graph.held_bytes for graph in cached)
    return max((graph.full_step_bytes - graph.filled_bytes + held for graph in cached), default=0)


def _refused(graphs: Sequence[GraphReport]) -> tuple[str, ...]:
    reasons = Counter(graph.refusal for graph in graphs if graph.refusal is not None)
    if not graphs:
        return ("the forward pass has no graph",)
    if len(graphs) == 1:
        return tuple(reasons)
    return tuple(f"{times} of {len(graphs)} graphs: {reason}" for reason, times in reasons.items())


COMPILE_ALL = (
    "Compile the whole transformer: neither one of its blocks nor the pipeline around it. The project's "
    "page docs/models.md lists the structures that are found."
)
OUTSIDE = (
    "Dynamo splits the forward pass, and what lies outside of the graphs with branches runs at every step: "
    "TORCH_LOGS=graph_breaks shows where it breaks."
)


def _advice(graphs: Sequence[GraphReport], outcome: str, share: float) -> tuple[str, ...]:
    found = []
    if any("no residual branch" in (graph.refusal or "") for graph in graphs) and outcome == "not":
        found.append(COMPILE_ALL)
    if len(graphs) > 1 or not all(graph.whole for graph in graphs):
        found.append(OUTSIDE)
    if outcome == "partly":
        most = f"{1 / share:.1f}x"
        found.append(f"{share:.0%} of a full step run in every recipe: no schedule makes it more than {most} as fast.")
    if any(graph.uncounted for graph in graphs):
        found.append("Some attentions are left out of the FLOPs, see below.")
    return tuple(found)
