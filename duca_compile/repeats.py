"""Where a sequence repeats itself side by side, as the ops of a transformer's blocks do."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

PERIODS_TRIED = 64
SAME_KIND = 8
"""How often one token may occur within a period and still tell its length."""


@dataclass(frozen=True)
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
    candidates = [repeat for period in _periods(tokens) for repeat in _runs(tokens, period)]
    while candidates:
        best = max(candidates, key=lambda repeat: (repeat.saved, -repeat.period))
        found.append(best)
        candidates = [part for repeat in candidates for part in _outside(repeat, best)]
    return sorted(found, key=lambda repeat: repeat.start)


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
