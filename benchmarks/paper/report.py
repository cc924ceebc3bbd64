"""The rows as tables for a terminal and for docs/paper.md."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from paper.models import SUBJECTS
from paper.total import Total

HEADINGS = ("row", "steps", "published", "ours", "ours / published", "as it counts", "why they differ")
TOLD = 0.0005
"""The share of a published figure from which on its parts are told."""


def terminal(totals: Sequence[Total]) -> Iterator[Table]:
    first = _uncached(totals)
    for title, found in _tables(totals):
        table = Table(*HEADINGS, title=title)
        for each in found:
            table.add_row(*_cells(each, first[each.model]), end_section=True)
        yield table


def markdown(totals: Sequence[Total]) -> str:
    lines, first = list[str](), _uncached(totals)
    for title, found in _tables(totals):
        rows = (
            HEADINGS,
            ("---", "---", "---:", "---:", "---:", "---:", "---"),
            *(_cells(each, first[each.model]) for each in found),
        )
        lines += [f"**{title}**", "", *("| " + " | ".join(cells) + " |" for cells in rows), ""]
    return "\n".join(lines).rstrip()


def methods(totals: Sequence[Total]) -> str:
    """Which method each row is, as options."""
    lines = list[str]()
    for title, found in _tables(totals):
        lines += [f"**{title}**", "", *(f"- {each.label}: `{each.method}`" for each in found if each.method), ""]
    return "\n".join(lines).rstrip()


def _uncached(totals: Sequence[Total]) -> dict[str, float]:
    """By model: FLOPs of its first row."""
    return {each.model: each.ours for each in reversed(totals)}


def _tables(totals: Sequence[Total]) -> Iterator[tuple[str, list[Total]]]:
    for title, found in groupby(totals, key=_title):
        yield title, list(found)


def _title(each: Total) -> str:
    title = SUBJECTS[each.model].title
    return f"Table {each.table}: {title}" if each.table else title


def _cells(each: Total, uncached: float) -> tuple[str, ...]:
    counts = ", ".join(f"{count} {recipe}" for recipe, count in each.steps.items())
    published = f"{each.published} ({each.printed or each.ratio:.2f}x)" if each.published else ""
    ours = f"{each.ours:.2f} ({uncached / each.ours:.2f}x)" if each.ours else ""
    difference = f"{each.difference:+.2%}" if each.difference is not None else ""
    return (each.label, counts, published, ours, difference, _theirs(each), "; ".join(_reasons(each)))


def _theirs(each: Total) -> str:
    if each.remainder is None:
        return f"{each.theirs:.2f}" if each.theirs else ""
    return "to the digit" if not each.remainder else f"{each.theirs:.2f}"


def _reasons(each: Total) -> Iterator[str]:
    for what, flops in each.extras.items() if each.published else ():
        share = flops / float(each.published)
        if abs(share) >= TOLD:
            yield f"{what}: {share:+.2%}"
    if each.note:
        yield each.note
    elif each.printed:
        yield f"the printed ratio; the figures have {each.ratio:.2f}x"
