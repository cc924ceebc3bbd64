"""Blocks in which everything is alike, told as one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from duca_compile.analysis.facts import Branch
from duca_compile.methods.base import Action
from duca_compile.plan.plan import Plan
from duca_compile.report.units import ranges_told


@dataclass(frozen=True)
class Row:
    """A branch, and those in its place in the other blocks; `actions` and what is `told` of them, by recipe."""

    branches: tuple[Branch, ...]
    actions: dict[str, Action]
    told: dict[str, str]

    @property
    def first(self) -> Branch:
        return self.branches[0]

    @property
    def names(self) -> str:
        return self.first.sum + " ..." * (len(self.branches) > 1)


@dataclass(frozen=True)
class Group:
    """The blocks `first` to `last`, a row for each branch of one of them."""

    first: int
    last: int
    rows: tuple[Row, ...]

    @property
    def numbers(self) -> str:
        return ranges_told(range(self.first, self.last + 1))


def groups(plan: Plan) -> tuple[Group, ...]:
    """In order."""

    def looks(block: tuple[int, ...]) -> list[tuple[object, ...]]:
        return [_looks(plan, at) for at in block]

    return tuple(_numbered(plan, [list(alike) for _, alike in itertools.groupby(plan.facts.blocks, looks)]))


def not_token_wise(found: tuple[Group, ...]) -> dict[str, str]:
    """For each reason, which branches have it."""
    where: dict[str, dict[str, set[int]]] = {}
    for group in found:
        for row in group.rows:
            if row.first.refusal:
                numbers = where.setdefault(row.first.refusal, {}).setdefault(row.first.kind, set())
                numbers.update(range(group.first, group.last + 1))
    return {
        reason: "; ".join(
            f"{kind} of {'blocks' if len(blocks) > 1 else 'block'} {ranges_told(blocks)}"
            for kind, blocks in kinds.items()
        )
        for reason, kinds in where.items()
    }


def _looks(plan: Plan, at: int) -> tuple[object, ...]:
    branch = plan.branches[at]
    told = [step.told(at) for step in plan.steps.values()]
    return branch.kind, branch.stream, branch.source, branch.refusal, *told


def _numbered(plan: Plan, runs: list[list[tuple[int, ...]]]) -> Iterator[Group]:
    first = 0
    for alike in runs:
        rows = tuple(_row(plan, places) for places in zip(*alike, strict=True))
        yield Group(first, first + len(alike) - 1, rows)
        first += len(alike)


def _row(plan: Plan, places: tuple[int, ...]) -> Row:
    at = places[0]
    return Row(
        tuple(plan.branches[place] for place in places),
        {name: step.actions[at] for name, step in plan.steps.items()},
        {name: step.told(at) for name, step in plan.steps.items()},
    )
