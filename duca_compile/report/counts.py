"""What a compiled model has done so far, as a value, as text and as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from duca_compile.methods.base import FULL
from duca_compile.report.graph_notes import Line
from duca_compile.report.text import WIDTH, lines, plain, shown, table, written
from duca_compile.report.units import bytes_told, counted, saved_told, share_told

MANY = 10
"""Generations from which on tenths are told of, in place of the least and the most."""


@dataclass(frozen=True)
class Generation:
    """The calls of one image or video under one conditioning: two of them where guidance calls the model twice. It goes
    on where its caches start over, as long as its timestep goes on.

    `steps` by recipe; `full`: why so many of them were full; `speedup` in FLOPs, None where these are not known.
    """

    steps: Mapping[str, int]
    full: Mapping[str, int]
    speedup: float | None


@dataclass(frozen=True)
class Stats:
    """`graphs` that are accelerated; `steps` by recipe, each one forward pass; `full`: why so many of them were full;
    `held` of them could not forecast, as the sampler had added fresh noise since the last two full steps, and took what
    the last one stored; `resets` by reason: why generations began or started over; `trajectories` that keep caches;
    `bytes` held in caches now, and the most ever held at once; `compile_seconds` by recipe over all graphs.

    `generations`: how many of them ran, of the last 1,024; `speedups`: of these in FLOPs, the least, the median and the
    most; from 10 generations on what a tenth, half and nine tenths of them do not exceed; None for a single one, and
    where FLOPs are not known. `last_generations`: each of the last 100, in the order in which they began.
    `step_seconds`: the mean by recipe, of steps within `duca_compile.timing()`.

    `speedup`: of these steps in FLOPs, the least that it can be where several graphs ran them; None where FLOPs are not
    known, as of a forward pass that is split. `compiled`: whether what was given was compiled with backend "duca".
    `notes`: why graphs, or calls, of it were not accelerated; `warnings`: what else was warned of. `sharing`: how many
    other modules of the class ran through the same graphs, so that their steps count here, too.

    `str(stats)` is a text in 80 columns, `text(width)` in others; `show()` prints it as wide as the terminal is.
    """

    graphs: int
    steps: Counter[str]
    held: int
    resets: dict[str, int]
    trajectories: int
    bytes: int
    peak_bytes: int
    compile_seconds: dict[str, float]
    speedup: float | None = None
    generations: int = 0
    speedups: tuple[float, float, float] | None = None
    last_generations: tuple[Generation, ...] = ()
    full: Mapping[str, int] = field(default_factory=dict)
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    compiled: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sharing: int = 0

    @property
    def headline(self) -> str:
        """One sentence."""
        total = self.steps.total()
        if total:
            saved = "" if self.speedup is None else f": {self._least}{saved_told(self.speedup)}"
            return f"{counted(total, 'step')} in {counted(self.graphs, 'graph')}{saved}."
        if self.notes:
            return "No step was accelerated so far."
        if self.compiled:
            return "Compiled, and not called yet."
        return 'Plain: not compiled with backend "duca", or not called yet.'

    def to_json(self) -> str:
        """The fields by their names, and the `headline`."""
        generations = [vars(each) for each in self.last_generations]
        return json.dumps({"headline": self.headline, **vars(self), "last_generations": generations}, indent=2)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        console = plain(width)
        self._print_to(console)
        return written(console)

    def show(self) -> None:
        """Prints it: to a terminal as wide as that is, and in colour; to a file in 80 columns."""
        self._print_to(shown())

    def _print_to(self, console: Console) -> None:
        console.print(Text(self.headline))
        if self.steps.total():
            console.print()
            console.print(self._recipes())
            console.print()
        console.print(lines(self._told()))

    @property
    def _least(self) -> str:
        return "at least " if self.graphs > 1 else ""

    def _recipes(self) -> Table:
        timed = ("a step takes",) if self.step_seconds else ()
        made = table("recipe", "steps", "share", "compiled in", *timed, left=("recipe",))
        for name, times in self.steps.items():
            cells = [str(times), share_told(times, self.steps.total()), f"{self.compile_seconds.get(name, 0.0):.2f} s"]
            if timed:
                cells.append(f"{1e3 * self.step_seconds[name]:.2f} ms" if name in self.step_seconds else "")
            made.add_row(Text(name), *cells)
        return made

    def _told(self) -> Iterator[Line]:
        if self.graphs:
            yield "caches", f"{bytes_told(self.bytes)} in {counted(self.trajectories, 'trajectory')}"
            yield "at most", bytes_told(self.peak_bytes)
        for why, times in self.full.items():
            yield FULL, f"{counted(times, 'step')}: {why}"
        if self.speedups is not None:
            yield "generations", f"{self.generations:,}; fewer FLOPs: {self._spread(*self.speedups)}"
        if self.held:
            yield "held", f"{counted(self.held, 'step')} took what was stored last: fresh noise rules a forecast out"
        for reason, times in self.resets.items():
            yield "started over", f"{counted(times, 'time')}, {FULL} out of turn: {reason}"
        if self.sharing:
            others = counted(self.sharing, "other module")
            yield "shared", f"{others} of its class ran through the same graphs; their steps count here, too"
        for note in self.notes:
            yield "not accelerated", note
        for warning in self.warnings:
            yield "warned", warning

    def _spread(self, least: float, half: float, most: float) -> str:
        if self.generations < MANY:
            return f"least {least:.2f}x, median {half:.2f}x, most {most:.2f}x"
        return f"a tenth of them at most {least:.2f}x, half {half:.2f}x, a tenth at least {most:.2f}x"
