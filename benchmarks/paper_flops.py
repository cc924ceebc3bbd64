"""FLOPs of our graphs for each row of Tables II to VI of the paper (arXiv 2412.18911v2), beside the published figures.

    python benchmarks/paper_flops.py                        # all: writes results/paper_flops.json and docs/paper.md
    python benchmarks/paper_flops.py dit flux               # the rows of these models, shown only
    python benchmarks/paper_flops.py flux --row "DuCa, N = 4"

The models have their published sizes, on torch's meta device: no weights, nothing is computed. A row is a method and the
recipe of each of its steps; its FLOPs are the sum of those of the recipes' rewritten graphs.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import torch
from rich.console import Console
from rich.progress import track

from paper import report
from paper.models import SUBJECTS
from paper.rows import ROWS
from paper.total import Total, total

RESULT, PAGE = ROOT / "benchmarks" / "results" / "paper_flops.json", ROOT / "docs" / "paper.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(SUBJECTS)}; all without")
    parser.add_argument("--row", help="the one with this name alone")
    given = parser.parse_args()
    uncached = {row.model: row for row in reversed(ROWS)}
    rows = [row for row in ROWS if row.model in (given.models or SUBJECTS)]
    rows = [row for row in rows if given.row in (None, row.label) or row is uncached[row.model]]
    if not rows:
        parser.error("no row is of these models and has this name")
    console = Console(width=200)
    totals = [total(row) for row in track(rows, "counting", console=Console(stderr=True))]
    if len(rows) == len(ROWS):
        write(totals)
    for table in report.terminal(totals):
        console.print(table)


def write(totals: Sequence[Total]) -> None:
    RESULT.write_text(
        json.dumps({"torch": torch.__version__, "rows": [asdict(each) for each in totals]}, indent=1) + "\n"
    )
    page = PAGE.read_text()
    for mark, text in (("paper", report.markdown(totals)), ("methods", report.methods(totals))):
        page = marked(page, mark, text)
    PAGE.write_text(page)


def read() -> list[Total]:
    return [Total(**each) for each in json.loads(RESULT.read_text())["rows"]]


def marked(page: str, mark: str, text: str) -> str:
    """The page with `text` between the marks of this name."""
    parts = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    return parts.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


if __name__ == "__main__":
    main()
