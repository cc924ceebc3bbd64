"""Pictures in SVG, to stand in a page: what each recipe does with each branch, and the recipes of the steps."""

from collections.abc import Iterator, Sequence
from html import escape

from duca_compile.methods.base import Action
from duca_compile.plan.plan import Plan
from duca_compile.report.branch_groups import Group, Row
from duca_compile.report.colours import ACTIONS, of_recipes

LEFT, BOX, GAP, LANE, HIGH, TOP = 186, 104, 10, 46, 32, 46
"""Widths and heights: the names of recipes, a branch, between branches, a stream, a branch, the names of blocks."""
CELL, ROW, IN_ROW = 16, 44, 50


def branches(plan: Plan, groups: Sequence[Group]) -> str:
    """Streams run from left to right, through the branches of each block; a band for each recipe."""
    columns = [(group, row) for group in groups for row in group.rows]
    streams = [stream.index for stream in plan.facts.streams]
    band = LANE * len(streams) + 14
    width = LEFT + (BOX + GAP) * len(columns) + 70
    height = TOP + band * len(plan.steps)
    drawn = [*_headings(groups, height)]
    for number, (name, colour) in enumerate(of_recipes(plan.steps).items()):
        top = TOP + band * number
        drawn += [*_name(name, colour, top + LANE * len(streams) // 2), *_lanes(name, top, columns, streams)]
    return _svg(width, height, "what each recipe does with each branch", drawn)


def steps(sequence: Sequence[str]) -> str:
    """A strip of cells, 50 in a row."""
    colours, drawn = of_recipes(dict.fromkeys(sequence)), list[str]()
    for step, name in enumerate(sequence):
        x, y = step % IN_ROW * (CELL + 2), step // IN_ROW * ROW
        title = f"<title>step {step}: {escape(name)}</title>"
        drawn.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="26" rx="3" fill="{colours[name]}">{title}</rect>')
        if step % 10 == 0:
            drawn.append(f'<text class="small" x="{x}" y="{y + 39}">{step}</text>')
    rows = (len(sequence) - 1) // IN_ROW + 1
    return _svg(IN_ROW * (CELL + 2), rows * ROW, "the recipe of each step", drawn)


def _headings(groups: Sequence[Group], height: int) -> Iterator[str]:
    at = 0
    for group in groups:
        x, width = LEFT + at * (BOX + GAP), len(group.rows) * (BOX + GAP) - GAP
        times = group.last - group.first + 1
        told = f"block {group.numbers}" if times == 1 else f"blocks {group.numbers} ({times} alike)"
        yield f'<rect class="block" x="{x - 5}" y="24" width="{width + 10}" height="{height - 26}" rx="8"/>'
        yield f'<text class="heading" x="{x}" y="15">{escape(told)}</text>'
        at += len(group.rows)


def _name(name: str, colour: str, middle: int) -> Iterator[str]:
    yield f'<rect x="0" y="{middle - 13}" width="11" height="11" rx="2" fill="{colour}"/>'
    yield f'<text class="recipe" x="17" y="{middle - 3}">{escape(name)}</text>'


def _lanes(name: str, top: int, columns: Sequence[tuple[Group, Row]], streams: Sequence[int]) -> Iterator[str]:
    for lane, stream in enumerate(streams):
        middle = top + lane * LANE + HIGH // 2
        if len(streams) > 1:
            yield f'<text class="small" x="{LEFT - 18}" y="{middle + 4}" text-anchor="end">stream {stream}</text>'
        yield from _stream(
            middle, [(at, row) for at, (_, row) in enumerate(columns) if row.first.stream == stream], name
        )


def _stream(middle: int, own: Sequence[tuple[int, Row]], recipe: str) -> Iterator[str]:
    """The line, which is dashed where nothing runs and goes on from the cache, and the branches on it."""
    skipped = [at for at, row in own if row.actions[recipe] is Action.SKIP]
    start, end = LEFT - 12, LEFT + (own[-1][0] + 1) * (BOX + GAP) + 14
    joins = LEFT + (max(skipped) + 1) * (BOX + GAP) if skipped else start
    if skipped:
        yield f'<line class="cut" x1="{start}" y1="{middle}" x2="{joins}" y2="{middle}"/>'
    yield f'<line class="stream" x1="{joins}" y1="{middle}" x2="{end}" y2="{middle}"/>'
    yield f'<path class="arrow" d="M{end} {middle - 4} l8 4 l-8 4 z"/>'
    for at, row in own:
        yield from _box(LEFT + at * (BOX + GAP), middle - HIGH // 2, row, recipe)
    if skipped:
        yield f'<circle class="cache" cx="{joins}" cy="{middle}" r="6"><title>from the cache</title></circle>'


def _box(x: int, y: int, row: Row, recipe: str) -> Iterator[str]:
    action = row.actions[recipe]
    fill, ink, meaning = ACTIONS[action]
    dashed = ' stroke-dasharray="3 3"' if action is Action.SKIP else ""
    title = escape(f"{row.names}, {row.first.source}: {meaning}")
    place = f'x="{x}" y="{y}" width="{BOX}" height="{HIGH}" rx="5"'
    yield f'<rect {place} fill="{fill}" stroke="#9aa3af"{dashed}><title>{title}</title></rect>'
    for dy, told in ((13, row.first.kind), (26, row.told[recipe])):
        yield f'<text class="in" x="{x + BOX // 2}" y="{y + dy}" style="fill:{ink}">{escape(told)}</text>'


def _svg(width: int, height: int, label: str, drawn: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg {size} role="img" aria-label="{label}">' + "".join(drawn) + "</svg>"
