"""The report as one HTML page that needs nothing else: no other file, no network, no script."""

from collections.abc import Iterable, Sequence
from html import escape

from duca_compile.methods.base import FULL
from duca_compile.plan.plan import Plan
from duca_compile.report import picture
from duca_compile.report.branch_groups import Group, groups
from duca_compile.report.colours import ACTIONS, of_recipes
from duca_compile.report.graph_notes import Line, inputs_and_streams, notes
from duca_compile.report.graph_report import GraphReport
from duca_compile.report.page_template import PAGE, PICTURE, SECTION, SUBTITLE
from duca_compile.report.text import verdict_lines
from duca_compile.report.units import bytes_told, counted, flops_told, share_told
from duca_compile.report.verdict import Verdict


def page(model: str, verdict: Verdict, graphs: Sequence[GraphReport]) -> str:
    sections = [_graph(number, graph, len(graphs)) for number, graph in enumerate(graphs) if graph.plan is not None]
    return PAGE.substitute(
        model=escape(model),
        outcome=verdict.outcome,
        headline=escape(verdict.headline),
        figures=_figures(verdict) if verdict.outcome != "not" else "",
        told=_list(verdict_lines(verdict)),
        schedule=_schedule(verdict, graphs) if verdict.outcome != "not" and verdict.sequence else "",
        graphs="\n".join(sections),
    )


def _figures(verdict: Verdict) -> str:
    speedup = "unknown" if verdict.speedup is None else f"{verdict.speedup:.2f}x"
    shown = (
        (speedup, "fewer FLOPs"),
        (
            f"{verdict.steps.get(FULL, 0)} of {len(verdict.sequence)}" if verdict.sequence else "unknown",
            "steps are full",
        ),
        (bytes_told(verdict.cache_bytes), "of cache a generation"),
        (bytes_told(verdict.peak_bytes), "at the peak of a step"),
    )
    return (
        '<div class="figures">'
        + "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in shown)
        + "</div>"
    )


def _schedule(verdict: Verdict, graphs: Sequence[GraphReport]) -> str:
    colours = of_recipes(name for graph in graphs if graph.plan is not None for name in graph.plan.steps)
    legend = {colour: name for name, colour in colours.items() if name in verdict.steps}
    shown = PICTURE.substitute(svg=picture.steps(verdict.sequence, colours), legend=_legend(legend))
    return SECTION.substitute(title=f"The {counted(len(verdict.sequence), 'step')} of a generation", body=shown)


def _graph(number: int, graph: GraphReport, total: int) -> str:
    assert graph.plan is not None
    found = groups(graph.plan)
    blocks, branches = counted(len(graph.plan.facts.blocks), "block"), counted(len(graph.plan.branches), "branch")
    title = f"{blocks}, {branches}" if total == 1 else f"Graph {number + 1} of {total}: {blocks}, {branches}"
    used = {action for step in graph.plan.steps.values() for action in step.actions}
    legend = {fill: meaning for action, (fill, _, meaning) in ACTIONS.items() if action in used}
    parts = (
        PICTURE.substitute(svg=picture.branches(graph.plan, found, graph.joined), legend=_legend(legend)),
        SUBTITLE.substitute(title="Found"),
        _list(inputs_and_streams(graph)),
        SUBTITLE.substitute(title="Branches"),
        _branches(found, graph.plan),
        SUBTITLE.substitute(title="Cost of a step"),
        _costs(graph),
        SUBTITLE.substitute(title="Notes"),
        _list(notes(graph, found)),
    )
    return SECTION.substitute(title=escape(title), body="\n".join(parts))


def _branches(found: Sequence[Group], plan: Plan) -> str:
    rows = [
        ("" if at else group.numbers, row.names, row.first.stream, row.first.kind, row.first.source, *row.told.values())
        for group in found
        for at, row in enumerate(group.rows)
    ]
    return _table(("block", "branch", "stream", "kind", "source", *plan.steps), rows, numbers=())


def _costs(graph: GraphReport) -> str:
    rows = [
        (
            name,
            flops_told(flops),
            share_told(flops, graph.flops[FULL]),
            bytes_told(graph.weight_bytes[name]),
            bytes_told(graph.cache_bytes[name]),
        )
        for name, flops in graph.flops.items()
    ]
    headings = ("recipe", "FLOPs", "share of full", "weights read", "cache read")
    return _table(headings, rows, numbers=range(1, len(headings)))


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int]) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        ways = [' class="number"' if at in numbers else "" for at in range(len(cells))]
        return "".join(f"<{tag}{way}>{escape(str(cell))}</{tag}>" for way, cell in zip(ways, cells, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{line(headings, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _list(told: Iterable[Line]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(what)}</dt><dd>{escape(said)}</dd>" for what, said in told) + "</dl>"


def _legend(meanings: dict[str, str]) -> str:
    return "".join(f'<li><i style="background:{fill}"></i>{escape(told)}</li>' for fill, told in meanings.items())
