"""Where a sequence repeats itself side by side, as the ops of a transformer's blocks do."""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

PERIODS_TRIED = 64
SAME_KIND = 8
"""How often one token may occur within a period and still tell its length."""


@dataclass(frozen=True, order=True)
class Repeat:
    """From `start` on every token equals the one `period` further on, if that still lies before `stop`."""

    start: int
    stop: int
    period: int

    @property
    def saved(self) -> int:
        """How many tokens repeat earlier ones, counting whole periods only."""
        return ((self.stop - self.start) // self.period - 1) * self.period


def find_repeats(tokens: Sequence[Hashable]) -> list[Repeat]:
    """The repeats of at least two periods that save most, none over another, in order."""
    found: list[Repeat] = []
    candidates = [_ranked(repeat) for period in _periods(tokens) for repeat in _runs(tokens, period)]
    heapify(candidates)
    while candidates:
        *_, best = heappop(candidates)
        at = bisect(found, best.start, key=lambda repeat: repeat.start)
        taken = next((repeat for repeat in found[max(0, at - 1) : at + 1] if _overlap(repeat, best)), None)
        if taken is None:
            found.insert(at, best)
        else:
            for part in _outside(best, taken):
                heappush(candidates, _ranked(part))
    return found


def _ranked(repeat: Repeat) -> tuple[int, int, int, Repeat]:
    """What saves most comes first, then what is shortest, then what is first."""
    return -repeat.saved, repeat.period, repeat.start, repeat


def _overlap(one: Repeat, other: Repeat) -> bool:
    return one.start < other.stop and other.start < one.stop


def _periods(tokens: Sequence[Hashable]) -> list[int]:
    """Distances between equal tokens, the most frequent ones."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for at, token in enumerate(tokens):
        places[token].append(at)
    distances = Counter(
        after - before
        for found in places.values()
        for apart in range(1, SAME_KIND + 1)
        for before, after in zip(found, found[apart:], strict=False)
    )
    return [distance for distance, _ in distances.most_common(PERIODS_TRIED)]


def _runs(tokens: Sequence[Hashable], period: int) -> list[Repeat]:
    runs, start = [], 0
    for at in range(len(tokens) - period + 1):
        if at == len(tokens) - period or tokens[at] != tokens[at + period]:
            runs.append(Repeat(start, at + period, period))
            start = at + 1
    return [run for run in runs if run.saved > 0]


def _outside(repeat: Repeat, taken: Repeat) -> list[Repeat]:
    """What is left of a repeat before and after another."""
    parts = (
        Repeat(repeat.start, min(repeat.stop, taken.start), repeat.period),
        Repeat(max(repeat.start, taken.stop), repeat.stop, repeat.period),
    )
    return [part for part in parts if part.saved > 0]
