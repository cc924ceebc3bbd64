"""FLOPs of our graphs for each row of Tables II to VI of the paper (arXiv 2412.18911v2), beside the published figures.

    python benchmarks paper flops                  # all: writes results/paper_flops.json and docs/paper.md
    python benchmarks paper flops dit flux         # the rows of these models, shown only
    python benchmarks paper flops flux --row "DuCa, N = 4"

The models have their published sizes, on torch's meta device: no weights, nothing is computed. A row is a method and the
recipe of each of its steps; its FLOPs are the sum of those of the recipes' rewritten graphs.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.progress import track

from face import pages
from face.block import Page
from face.commands import parser
from face.draw import as_json, show
from face.origin import origin
from paper.flops.models import SUBJECTS
from paper.flops.report import methods, tables
from paper.flops.rows import ROWS
from paper.flops.total import Total, total

RESULT = pages.RESULTS / "paper_flops.json"


def main(arguments: Sequence[str]) -> None:
    asked = parser("paper flops", __doc__)
    asked.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(SUBJECTS)}; all without")
    asked.add_argument("--row", help="the one with this name alone")
    given = asked.parse_args(arguments)
    uncached = {row.model: row for row in reversed(ROWS)}
    rows = [row for row in ROWS if row.model in (given.models or SUBJECTS)]
    rows = [row for row in rows if given.row in (None, row.label) or row is uncached[row.model]]
    if not rows:
        asked.error("no row is of these models and has this name")
    totals = [total(row) for row in track(rows, "counting", console=Console(stderr=True))]
    data = {"rows": [asdict(each) for each in totals]}
    page = Page("The paper's FLOPs", origin("paper flops", arguments), tables(totals), data=data)
    if len(rows) == len(ROWS):
        RESULT.write_text(as_json(page))
        pages.insert(pages.PAPER, "paper", page.blocks, page.origin)
        pages.insert(pages.PAPER, "methods", methods(totals), page.origin)
    show(page)


def read() -> list[Total]:
    return [Total(**each) for each in json.loads(RESULT.read_text())["rows"]]
