"""What several processes that run one model together agree on before each step.

Each has a dispatcher of its own, which knows its own calls alone. Where their graphs wait for one another, as in tensor
and context parallel, one process in a full step and another one in a cached step would wait for ever, or take each
other's values. So each says what it is about to do, before it does; the host waits for the others, once a step.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.graph.collectives import collectives, device_of, group_of


class Vote(NamedTuple):
    """Of one process. `step`: what it is about to run, and over what; `graphs`: all that it could. `compiles`: whether
    it has to compile first. `number`: of the last vote that it knows."""

    step: Hashable
    graphs: Hashable
    compiles: bool
    number: int


class Outcome(NamedTuple):
    """The same for all processes. `plain`: one of them runs the graph as it is, so all do. `is_one`: all are about to
    run the same step; `alike`: they could run the same ones. `compiles`: whether one has to compile first. `number`: of
    this vote."""

    plain: bool
    is_one: bool
    alike: bool
    compiles: bool
    number: int


@dataclass(frozen=True)
class Agreement:
    """Of the processes of some `groups`, by tensors on `device`.

    `reaches_all`: what is handed on along one group after the other reaches every process that it has to.
    """

    groups: tuple[Any, ...]
    device: torch.device
    reaches_all: bool

    def vote(self, own: Vote) -> Outcome:
        """To be called by all processes; the host waits for them."""
        step, graphs = _digest(own.step), _digest(own.graphs)
        plain, most, least, larger, smaller, compiles, number = self._largest(
            [0, step, -step, graphs, -graphs, int(own.compiles), own.number]
        )
        alike = larger == -smaller
        return Outcome(bool(plain) or not alike, most == -least, alike, bool(compiles), number + 1)

    def stand_aside(self) -> None:
        """The vote of a process that runs the graph as it is."""
        self._largest([1, 0, 0, 0, 0, 0, 0])

    def all_succeeded(self, succeeded: bool) -> bool:
        """Whether all processes did what one of them had to do first."""
        return self._largest([int(not succeeded)]) == [0]

    def _largest(self, numbers: Sequence[int]) -> list[int]:
        with torch_private.unseen():
            given = torch.tensor(numbers, dtype=torch.int64, device=self.device)
            for group in self.groups:
                torch_private.reduce_largest(given, group)
            return [int(number) for number in given.tolist()]


@dataclass(frozen=True)
class StandsAside:
    """A graph that runs as it is, where other processes may ask before each step whether it does."""

    run: Callable[..., Any]
    agreement: Agreement

    def __call__(self, *args: Any) -> Any:
        self.agreement.stand_aside()
        return self.run(*args)


def agreement_of(gm: fx.GraphModule) -> Agreement | None:
    """Of the processes that a captured graph waits for; None where it waits for none.

    Raises `Refused` where these cannot be told.
    """
    waiting = collectives(gm)
    if not waiting:
        return None
    members = {tuple(torch_private.ranks_of(group)): group for group in map(group_of, waiting)}
    largest = [ranks for ranks in members if not any(set(ranks) < set(other) for other in members)]
    groups = tuple(members[ranks] for ranks in largest)
    return Agreement(groups, device_of(waiting[0]), len(largest) == 1 or _are_of_one_mesh(largest))


def _are_of_one_mesh(groups: Sequence[Sequence[int]]) -> bool:
    """Whether they are this process's rows along different dimensions of a grid of all numbers, by which each process
    then tells its own: handing on along each dimension in turn reaches the whole grid."""
    stride = 1
    for ranks in sorted(groups, key=lambda ranks: ranks[1] - ranks[0]):
        step = ranks[1] - ranks[0]
        in_steps = list(ranks) == [ranks[0] + at * step for at in range(len(ranks))]
        if not in_steps or step % stride or ranks[0] // step % len(ranks):
            return False
        stride = step * len(ranks)
    return True


def _digest(told: Hashable) -> int:
    """56 bits that are the same in every process, unlike those of `hash`."""
    return int.from_bytes(hashlib.blake2b(repr(told).encode(), digest_size=7).digest(), "big")
