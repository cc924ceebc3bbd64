"""The report as text of any width: nothing is cut, what is too long goes on in the next line."""

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from duca_compile.methods.base import FULL
from duca_compile.report.branch_groups import Group, groups
from duca_compile.report.graph_notes import Line, inputs_and_streams, notes
from duca_compile.report.graph_report import GraphReport
from duca_compile.report.units import bytes_told, counted, flops_told, share_told
from duca_compile.report.verdict import Verdict

WIDTH = 80
_HEAD_RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""In ASCII, as is all that we print: files and terminals of other encodings, such as those of Windows, take it."""


def plain(width: int) -> Console:
    """That writes without colours into a text; `written` gives it."""
    return Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)


def written(console: Console) -> str:
    """Without an end of the last line, which `print` adds."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def shown() -> Console:
    """That prints: to a terminal as wide as that is, and in colour; to a file in 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def table(*headings: str, left: Sequence[str] = ()) -> Table:
    """Of numbers, but for the columns `left`."""
    made = Table(box=_HEAD_RULE, show_edge=False, pad_edge=False, padding=0, header_style="bold")
    for heading in headings:
        made.add_column(Text(heading), justify="left" if heading in left else "right", overflow="fold")
    return made


def lines(told: Iterable[Line]) -> Table:
    """What each is about on the left."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="cyan")
    made.add_column(overflow="fold")
    before = ""
    for what, said in told:
        made.add_row("" if what == before else what, Text(said))
        before = what
    return made


def show(console: Console, verdict: Verdict, graphs: Sequence[GraphReport]) -> None:
    console.print(Text(verdict.headline, style="bold red" if verdict.outcome == "not" else "bold green"))
    console.print(lines((f"  {what}", said) for what, said in verdict_lines(verdict)))
    for number, graph in enumerate(graphs):
        if graph.plan is not None:
            console.print()
            if len(graphs) > 1:
                console.rule(f"graph {number + 1} of {len(graphs)}", characters="-")
            _show_graph(console, graph)


def verdict_lines(verdict: Verdict) -> Iterable[Line]:
    if verdict.outcome != "not":
        if verdict.sequence:
            yield "steps", ", ".join(f"{times} {name}" for name, times in verdict.steps.items())
        if verdict.flops is not None and verdict.plain_flops is not None:
            yield "FLOPs", f"{flops_told(verdict.flops)} a generation, {flops_told(verdict.plain_flops)} plain"
        if verdict.elsewhere:
            yield "", f"{verdict.elsewhere:.1%} of a full step lie outside of the accelerated graphs"
        peak, alone = bytes_told(verdict.peak_bytes), bytes_told(verdict.plain_peak_bytes)
        yield "cache", f"{bytes_told(verdict.cache_bytes)} for each generation"
        yield "peak", f"{peak} in a full step, caches included, beside weights; the model alone {alone}"
    for reason in verdict.refused or ("nothing",):
        yield "refused", reason
    for advice in verdict.advice:
        yield "what to do", advice


def _show_graph(console: Console, graph: GraphReport) -> None:
    assert graph.plan is not None
    found = groups(graph.plan)
    blocks, branches = counted(len(graph.plan.facts.blocks), "block"), counted(len(graph.plan.branches), "branch")
    console.print(lines(inputs_and_streams(graph)))
    console.print(Text(f"\n{blocks}, {branches}", style="bold"))
    console.print(_branch_table(found, list(graph.plan.steps), console.width))
    console.print(Text(f"\ncost per step; one trajectory holds {bytes_told(graph.held_bytes)} of cache", style="bold"))
    console.print(_cost_table(graph))
    console.print()
    console.print(lines(notes(graph, found)))


def _branch_table(found: tuple[Group, ...], recipes: Sequence[str], width: int) -> Table:
    headings = ("block", "branch and source", "stream", "kind", *recipes)
    made = table(*headings, left=headings)
    for group in found:
        for at, row in enumerate(group.rows):
            branch = row.first
            named = f"{row.names}\n{branch.source}" if branch.source else row.names
            cells = ("" if at else group.numbers, named, str(branch.stream), branch.kind, *row.told.values())
            made.add_row(*map(Text, cells))
    made.columns[1].no_wrap = True
    _keep_whole(made, [1, *range(len(headings) - len(recipes), len(headings))], width)
    return made


def _keep_whole(made: Table, places: Sequence[int], width: int) -> None:
    """No line of the columns at these `places` breaks, or their headings after a hyphen, if there is room for that."""
    columns = [made.columns[at] for at in places]
    headings = [str(column.header) for column in columns]
    for told in headings, [heading.replace("-", "-\n") for heading in headings]:
        for column, heading in zip(columns, told, strict=True):
            column.header = Text(heading)
        if sum(_least_width(column, column in columns) + 1 for column in made.columns) <= width + 1:
            for column in columns:
                column.no_wrap = True
            return


def _least_width(column: Column, in_one_line: bool) -> int:
    """In which no line of the column breaks, or else no word."""
    told = "\n".join(map(str, (column.header, *column.cells)))
    return max(map(cell_len, told.splitlines() if in_one_line else told.split()))


def _cost_table(graph: GraphReport) -> Table:
    made = table("recipe", "FLOPs", "share of full", "weights read", "cache read", left=("recipe",))
    for name, flops in graph.flops.items():
        reads = bytes_told(graph.weight_bytes[name]), bytes_told(graph.cache_bytes[name])
        made.add_row(Text(name), flops_told(flops), share_told(flops, graph.flops[FULL]), *reads)
    return made
