"""What the backend finds in every model of the zoo, a line each.

Tiny configurations with random weights, run through the backend with `eager` inside: FLOPs are counted as they are
executed, not timed, and at this size the ends of a model weigh more than they do at full size. `--markdown` prints the
table of `docs/models.md`.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tests", "examples")]

from duca_compile import Mode
from zoo.case import Case
from zoo.every import ZOO
from zoo.survey import executed, survey

COLUMNS = ("model", "blocks", "branches", "recomputed", "graphs", "conservative", "aggressive", "verdict")


@dataclass(frozen=True)
class Line:
    """Shares are of the FLOPs that a FULL step executes."""

    name: str
    blocks: int
    branches: int
    recomputed: int
    graphs: int
    shares: tuple[float, float]
    verdict: str

    @property
    def cells(self) -> tuple[str, ...]:
        shares = [f"{share:.1%}" for share in self.shares]
        counts = (self.blocks, self.branches, self.recomputed, self.graphs)
        return (self.name, *map(str, counts), *shares, self.verdict)


def look_at(name: str, case: Case) -> Line:
    torch._dynamo.reset()
    found = survey(case.model(), case.call(500.0))
    if not found.accelerated:
        return Line(name, 0, 0, 0, found.graphs, (1.0, 1.0), f"not accelerated: {found.refusals[-1]}")
    torch._dynamo.reset()
    flops = executed(case.model(), case.call)
    shares = flops[Mode.CONSERVATIVE] / flops[Mode.FULL], flops[Mode.AGGRESSIVE] / flops[Mode.FULL]
    return Line(name, found.blocks, found.branches, found.recomputed, found.graphs, shares, verdict(case, min(shares)))


def verdict(case: Case, least: float) -> str:
    """`least`: the share of a full step that runs in every recipe."""
    reasons = [case.partly] * bool(case.partly) + ["more than half of a full step runs in every recipe"] * (least > 0.5)
    return f"partly: {'; '.join(reasons)}" if reasons else "accelerated"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="entries of the zoo; all without")
    parser.add_argument("--markdown", action="store_true", help="the table as `docs/models.md` has it")
    args = parser.parse_args()
    console = Console(stderr=True)
    warnings.simplefilter("ignore")
    names = args.names or sorted(ZOO, key=str.lower)
    lines = [look_at(name, ZOO[name]) for name in track(names, "looking", console=console)]
    if args.markdown:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "|".join([" --- "] + [" ---: "] * 6 + [" --- "]) + "|")
        print("\n".join("| " + " | ".join(line.cells) + " |" for line in lines))
        return
    table = Table(*COLUMNS, title=f"{len(lines)} models")
    for line in lines:
        table.add_row(*line.cells)
    Console().print(table)


if __name__ == "__main__":
    main()
