"""Blocks and pages on the terminal, as Markdown and as JSON."""

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from face.block import Block, Page

WIDTH = 120
"""Of text."""
PIPE = 160
"""Of what is no terminal."""
UNFOLDED = 12
"""Characters of a cell up to which it stays on one line."""
COLOURS = {"met": "green", "missed": "red"}
"""Of a row, by its last cell."""


def show(page: Page) -> None:
    """On the terminal, as wide as it is."""
    console = Console(width=None if sys.stdout.isatty() else PIPE, highlight=False)
    console.print(Group(*(part for block in page.blocks for part in terminal(block))))
    console.print(Text(page.origin.line, style="dim"))


def terminal(block: Block) -> Iterator[Any]:
    table = Table(padding=(0, 1))
    for number, heading in enumerate(block.headings):
        longest = max((len(row[number]) for row in block.rows), default=0)
        justify: Any = "left" if number in block.words else "right"
        table.add_column(heading, justify=justify, overflow="fold", min_width=min(longest, UNFOLDED))
    for row in block.rows:
        table.add_row(*row, style=COLOURS.get(row[-1]))
    yield Text(block.title, style="bold")
    yield table
    for note in block.notes:
        yield Text(note, style="dim")
    yield Text("")


def markdown(page: Page) -> str:
    """A page of its own, wrapped but for its tables."""
    lines = [f"# {page.title}", "", *wrapped(page.origin.line)]
    for paragraph in filter(None, page.introduction.split("\n\n")):
        lines += ["", *wrapped(paragraph)]
    for block in page.blocks:
        lines += ["", f"## {block.title}", "", *table_lines(block)]
        for note in block.notes:
            lines += ["", *wrapped(note)]
    return "\n".join(lines) + "\n"


def table_lines(block: Block) -> list[str]:
    rule = "|".join("---" if number in block.words else "---:" for number in range(len(block.headings)))
    return [_line(block.headings), f"|{rule}|", *map(_line, block.rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def wrapped(text: str) -> list[str]:
    """A paragraph, or a list whose every line starts with a dash."""
    found = []
    for part in text.splitlines() if text.startswith("- ") else [text]:
        indent = "  " if part.startswith("- ") else ""
        found += textwrap.wrap(part, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return found


def as_json(page: Page) -> str:
    figures = page.data or {"blocks": [asdict(block) for block in page.blocks]}
    found = {**asdict(page.origin), **figures}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
