"""Pictures in SVG, to stand in a page: what each recipe does with each branch, and the recipes of the steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from duca_compile.methods.base import Action
from duca_compile.plan.plan import Plan
from duca_compile.report.branch_groups import Group, Row
from duca_compile.report.colours import ACTIONS, of_recipes

LEFT, BOX, GAP, LANE, HIGH, TOP = 186, 104, 10, 46, 32, 46
"""Widths and heights: the names of recipes, a branch, between branches, a stream, a branch, the names of blocks."""
CELL, ROW, IN_ROW = 16, 44, 50
LETTER, NAMES = 8, 84
"""The width of a letter of a recipe's name, and that of all of it for which there is room."""


def _left(at: int) -> int:
    """Of the branch in this column."""
    return LEFT + at * (BOX + GAP)


@dataclass(frozen=True)
class Lane:
    """A stream in the band of a recipe: the height of its line, and its own branches with their columns."""

    stream: int
    middle: int
    recipe: str
    own: tuple[tuple[int, Row], ...]

    @property
    def begins(self) -> int:
        return _left(self.own[0][0]) - GAP // 2

    @property
    def ends(self) -> int:
        return _left(self.own[-1][0] + 1)

    @property
    def skipped(self) -> list[int]:
        """The columns of branches that do not run."""
        return [at for at, row in self.own if row.actions[self.recipe] is Action.SKIP]


def branches(plan: Plan, groups: Sequence[Group], joined: Mapping[int, tuple[int, ...]]) -> str:
    """Streams run from left to right, through the branches of each block, and on into those that are `joined` of them;
    a band for each recipe."""
    columns = [(at, row) for at, row in enumerate(row for group in groups for row in group.rows)]
    streams = [stream.index for stream in plan.facts.streams]
    band = LANE * len(streams) + 14
    width = LEFT + (BOX + GAP) * len(columns) + 70
    height = TOP + band * len(plan.steps)
    names, drawn = list[str](), list(_headings(groups, height))
    for number, (name, colour) in enumerate(of_recipes(plan.steps).items()):
        top = TOP + band * number
        names += _name(name, colour, top + LANE * len(streams) // 2)
        places = [(stream, top + lane * LANE + HIGH // 2) for lane, stream in enumerate(streams)]
        drawn += _lanes([Lane(*each, name, _own(columns, each[0])) for each in places], joined)
    aside = max(0, LETTER * max(map(len, plan.steps)) - NAMES)
    shifted = f'<g transform="translate({aside} 0)">{"".join(drawn)}</g>'
    return _svg(width + aside, height, "what each recipe does with each branch", [*names, shifted])


def _own(columns: Sequence[tuple[int, Row]], stream: int) -> tuple[tuple[int, Row], ...]:
    return tuple((at, row) for at, row in columns if row.first.stream == stream)


def steps(sequence: Sequence[str], colours: Mapping[str, str]) -> str:
    """A strip of cells, 50 in a row."""
    drawn = list[str]()
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


def _lanes(lanes: Sequence[Lane], joined: Mapping[int, tuple[int, ...]]) -> Iterator[str]:
    for lane in lanes:
        if len(lanes) > 1:
            told = f"stream {lane.stream}"
            yield f'<text class="small" x="{LEFT - 18}" y="{lane.middle + 4}" text-anchor="end">{told}</text>'
        after = next((later for later in lanes if lane.stream in joined.get(later.stream, ())), None)
        yield from _stream(lane, lane.begins if lane.stream in joined else LEFT - 12, after)


def _stream(lane: Lane, start: int, after: Lane | None) -> Iterator[str]:
    """The line, which is dashed where nothing runs and goes on from the cache, and the branches on it; then on to the
    stream `after`."""
    middle, skipped = lane.middle, lane.skipped
    end = lane.ends + 14 if after is None else after.begins
    is_read = after is None or not after.skipped or after.skipped[0] != after.own[0][0]
    is_idle = len(skipped) == len(lane.own) and not is_read
    joins = end if is_idle else min(end, _left(max(skipped) + 1)) if skipped else start
    if skipped:
        yield f'<line class="cut" x1="{start}" y1="{middle}" x2="{joins}" y2="{middle}"/>'
    yield f'<line class="stream" x1="{joins}" y1="{middle}" x2="{end}" y2="{middle}"/>'
    if after is None:
        yield f'<path class="arrow" d="M{end} {middle - 4} l8 4 l-8 4 z"/>'
    else:
        kind = "cut" if is_idle else "stream"
        yield f'<line class="{kind}" x1="{end}" y1="{middle}" x2="{end}" y2="{after.middle}"/>'
    for at, row in lane.own:
        yield from _box(_left(at), middle - HIGH // 2, row, lane.recipe)
    if skipped and not is_idle:
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
