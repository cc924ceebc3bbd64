"""What a compiled model has done so far, as a value, as text and as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from duca_compile.methods.base import FULL
from duca_compile.report.graph_notes import Line
from duca_compile.report.text import WIDTH, lines, plain, table, written
from duca_compile.report.units import bytes_told, counted, share_told


@dataclass(frozen=True)
class Stats:
    """`graphs` that are accelerated; `steps` by recipe, each one forward pass; `held` of them could not forecast, as
    the sampler had added fresh noise since the last two full steps, and took what the last one stored; `resets` by
    reason: why generations began or started over; `trajectories` that keep caches; `bytes` held in caches now, and the
    most ever held at once; `compile_seconds` by recipe over all graphs.

    `generations`: how many of them ran, of the last 1,024; `speedups`: of these in FLOPs, what a tenth of them, half of
    them and nine tenths of them do not exceed, None where FLOPs are not known. `step_seconds`: the mean by recipe, of
    steps within `duca_compile.timing()`.

    `speedup`: of these steps in FLOPs, the least that it can be where several graphs ran them; None where FLOPs are not
    known, as of a forward pass that is split. `compiled`: whether what was given was compiled with backend "duca".
    `notes`: why graphs, or calls, of it were not accelerated. `str(stats)` is a table in 80 columns.
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
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    compiled: bool = False
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """One sentence."""
        total = self.steps.total()
        if total:
            saved = "" if self.speedup is None else f": {self._least}{self.speedup:.2f}x fewer FLOPs"
            return f"{counted(total, 'step')} in {counted(self.graphs, 'graph')}{saved}."
        if self.notes:
            return "No step was accelerated so far."
        if self.compiled:
            return "Compiled, and not called yet."
        return 'Plain: not compiled with backend "duca", or not called yet.'

    def to_json(self) -> str:
        """The fields by their names, and the `headline`."""
        return json.dumps({"headline": self.headline, **vars(self)}, indent=2)

    def __str__(self) -> str:
        console = plain(WIDTH)
        console.print(Text(self.headline))
        if self.steps.total():
            console.print()
            console.print(self._recipes())
            console.print()
        console.print(lines(self._told()))
        return written(console)

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
        if self.speedups is not None:
            least, half, most = self.speedups
            told = f"a tenth of them at most {least:.2f}x, half {half:.2f}x, a tenth at least {most:.2f}x"
            yield "generations", f"{self.generations:,}; fewer FLOPs: {told}"
        if self.held:
            yield "held", f"{counted(self.held, 'step')} took what was stored last: fresh noise rules a forecast out"
        for reason, times in self.resets.items():
            yield "started over", f"{counted(times, 'time')}, {FULL} out of turn: {reason}"
        for note in self.notes:
            yield "not accelerated", note
