"""How many calls of a generation that has the process to itself are cached: a tracker that doubts all is of no use.

`python tests/sequences/coverage.py` prints a table (with `tests` and `examples` on the path).
"""

from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from sequences.direct import Direct
from sequences.generations import Plan
from sequences.oracle import Oracle
from sequences.program import Program, World
from sequences.samplers import DIFFUSION, FLOW

GUIDED = ("none", "batch", "two")


class Coverage(NamedTuple):
    cached: int
    total: int

    @property
    def share(self) -> float:
        return self.cached / self.total


def alone(model: int, sampler: str, guidance: str, steps: int = 50, skip: float = 0.0) -> Coverage:
    """Of the calls of one generation by `Direct.kinds[model]`; four in five can be cached at most."""
    world = World(Direct(Oracle()))
    plan = Plan(model, sampler, steps, skip, 0, 0, 0, guidance, "held", "none", 0, "inline", 2, 0.0, "none")
    program = Program(world)
    world.begin(program.all)
    generation = program.start(plan)
    while program.step(generation):
        pass
    program.teardown()
    counts = world.player.oracle.counts
    return Coverage(counts["conservative"] + counts["aggressive"], sum(counts.values()))


def samplers(predicts: str) -> tuple[str, ...]:
    return FLOW if predicts == "flow" else DIFFUSION


def main(steps: int = 50) -> None:
    table = Table("model", "sampler", *GUIDED, title=f"cached calls of all, a generation alone, {steps} steps")
    for model, kind in enumerate(Direct(Oracle()).kinds):
        trained = kind.denoiser == "trained"
        for sampler in ("DDIM",) if trained else samplers(kind.predicts):
            found = [alone(model, sampler, each, steps) for each in GUIDED[: 1 if trained else None]]
            table.add_row(" ".join(kind), sampler, *(f"{each.cached}/{each.total}" for each in found))
    Console(width=100).print(table)


if __name__ == "__main__":
    with torch.no_grad():
        main()
