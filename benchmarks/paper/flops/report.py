"""The rows as tables."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from face.block import Block
from paper.flops.models import SUBJECTS
from paper.flops.total import Total

HEADINGS = ("row", "steps", "published", "ours", "ours / published", "as it counts", "why they differ")
TOLD = 0.0005
"""The share of a published figure from which on its parts are told."""


def tables(totals: Sequence[Total]) -> list[Block]:
    """One for each table of the paper."""
    first = {each.model: each.ours for each in reversed(totals)}
    return [
        Block(title, HEADINGS, [_cells(each, first[each.model]) for each in found], words=(0, 1, 6))
        for title, found in groupby(totals, key=_title)
    ]


def methods(totals: Sequence[Total]) -> list[Block]:
    """Which method each row is, as options."""
    return [
        Block(
            title, ("row", "method"), [(each.label, f"`{each.method}`") for each in found if each.method], words=(0, 1)
        )
        for title, found in groupby(totals, key=_title)
    ]


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
