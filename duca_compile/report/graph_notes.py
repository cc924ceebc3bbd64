"""What else is to be said of an accelerated graph, a line each: for the text and for the page."""

from collections.abc import Iterator

from duca_compile.report.branch_groups import Group, not_token_wise
from duca_compile.report.graph_report import GraphReport
from duca_compile.report.units import bytes_told, counted

Line = tuple[str, str]
"""What it is about, and what is said."""


def inputs_and_streams(graph: GraphReport) -> Iterator[Line]:
    assert graph.plan is not None
    facts = graph.plan.facts
    given = facts.inputs
    for what, names, otherwise in (
        ("latents", given.latents, "not recognised"),
        ("timestep", given.timesteps, "not recognised"),
        ("conditioning", given.conditioning, "none"),
    ):
        yield what, ", ".join(given.spelled[name] for name in names) or otherwise
    for stream in facts.streams:
        branches = counted(len(stream.sums), "branch")
        sources = graph.joined.get(stream.index, ())
        root = f"{stream.root}, after {' and '.join(f'stream {each}' for each in sources)}" if sources else stream.root
        yield f"stream {stream.index}", f"{list(stream.shape)} from {root}, {branches}"


def notes(graph: GraphReport, groups: tuple[Group, ...]) -> Iterator[Line]:
    assert graph.plan is not None
    full, plain = bytes_told(graph.full_step_bytes), bytes_told(graph.plain_step_bytes)
    earlier = graph.filled_bytes < graph.held_bytes
    step = "the first full step, before earlier values are kept," if earlier else "a full step"
    yield "peak", f"beside weights, {step} takes {full}, the model alone {plain}"
    scored = graph.plan.scored_by_attention
    if scored:
        yield (
            "selector",
            (
                f"a full step writes out the attention that scores the tokens of {counted(scored, 'branch')}: it "
                "rounds otherwise than the model alone, and its softmax maps take memory"
            ),
        )
    for reason, where in not_token_wise(groups).items():
        yield "not token-wise", f"{where}: {reason}"
    if graph.plan.uncut:
        yield "not cut", f"no step cuts the stream: {graph.plan.uncut}"
    for name, reason in graph.uncounted.items():
        yield "not counted", f"its FLOPs are not counted: {name}: {reason}"
    for reason, places in graph.left.items():
        yield "left", f"left as it is, in {counted(places, 'place')}: {reason}"
    for name, reason in graph.plan.facts.refusals:
        yield "not a branch", f"{name}: {reason}"
