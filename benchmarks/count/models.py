"""What the backend finds in every model of the zoo, a line each.

Tiny configurations with random weights, run through the backend with `eager` inside: FLOPs are counted as they are
executed, not timed, and at this size the ends of a model weigh more than they do at full size.

    python benchmarks count models              # some minutes
    python benchmarks count models FLUX Wan     # these alone
    python benchmarks count models --write      # all, into docs/models.md
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track

from duca_compile import Mode
from face import pages
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
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


def main(arguments: Sequence[str]) -> None:
    asked = parser("count models", __doc__)
    asked.add_argument("names", nargs="*", metavar="NAME", help="entries of the zoo; all without")
    asked.add_argument("--write", action="store_true", help="the table of all into docs/models.md")
    given = asked.parse_args(arguments)
    if given.write and given.names:
        asked.error("--write is of all models: name none")
    warnings.simplefilter("ignore")
    names = given.names or sorted(ZOO, key=str.lower)
    lines = [look_at(name, ZOO[name]) for name in track(names, "looking", console=Console(stderr=True))]
    found, block = origin("count models", arguments), table(lines)
    if given.write:
        pages.insert(pages.MODELS, "models", block, found)
    show(Page("Models", found, [block]))


def table(lines: Sequence[Line]) -> Block:
    return Block(f"{len(lines)} models", COLUMNS, [line.cells for line in lines], words=(0, len(COLUMNS) - 1))
