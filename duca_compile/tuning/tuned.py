"""What `tune` has found: a table, a curve, options, a file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.plan.tuned_file import TunedFile
from duca_compile.tuning.moves import listed


@dataclass(frozen=True)
class Trial:
    """One generation: how its full steps were `placed`, what is forecast, the FLOPs of a computed one over its own, and
    how good it is by the metric; more is better."""

    placed: str
    forecast: str
    method: TaylorSeer
    speedup: float
    quality: float

    @property
    def schedule(self) -> tuple[int, ...]:
        return listed(self.method)

    @property
    def full_steps(self) -> int:
        return len(self.schedule)

    @property
    def told(self) -> str:
        """What is forecast, with its slope where that is not 1."""
        return self.forecast if self.method.slope == 1 else f"{self.forecast} {self.method.slope:g}"


@dataclass(frozen=True)
class Tuned:
    """`trials`, each of which was really run; `best` of them, one for each cost that was asked for, cheapest last.

    `metric` names what `quality` is. `str(tuned)` is the table.
    """

    steps: int
    portrait: str
    metric: str
    trials: tuple[Trial, ...]
    best: tuple[Trial, ...]

    def at(self, speedup: float | None = None, quality: float | None = None) -> Trial:
        """The best one of about this speed-up; or the cheapest one of at least this quality, or the best of all where
        none is as good; the cheapest of all without either."""
        if speedup is not None and quality is not None:
            raise ValueError("give a speedup or a quality, not both")
        if speedup is not None:
            return min(self.best, key=lambda trial: abs(trial.speedup - speedup))
        if quality is None:
            return self.best[-1]
        good = [trial for trial in self.best if trial.quality >= quality]
        return good[-1] if good else max(self.best, key=lambda trial: trial.quality)

    def options(self, speedup: float | None = None, quality: float | None = None) -> dict[str, Any]:
        """For `torch.compile`, of the trial that `at` chooses."""
        return {"method": self.at(speedup, quality).method}

    def save(self, path: str | Path, speedup: float | None = None, quality: float | None = None) -> None:
        """A small JSON file, which `options={"tuned": path}` takes, of the trial that `at` chooses."""
        chosen = self.at(speedup, quality)
        told = {"speedup": round(chosen.speedup, 3), self.metric: round(chosen.quality, 3)}
        found = {"placed": chosen.placed, "forecast": chosen.forecast, **told}
        TunedFile(chosen.method, self.steps, self.portrait, found).write(Path(path))

    def draw(self, path: str | Path) -> None:
        """The curve as a PNG. Needs matplotlib."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for kind in dict.fromkeys((trial.placed, trial.forecast) for trial in self.trials):
            drawn = [trial for trial in self.trials if (trial.placed, trial.forecast) == kind]
            _plot(axes, drawn, "o:", ", ".join(kind))
        _plot(axes, self.best, "k-", "best")
        axes.set(xlabel="times fewer FLOPs", ylabel=self.metric, title=f"{self.steps} steps")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=130)

    def __str__(self) -> str:
        table = Table(title=f"{self.steps} steps; {self.portrait}")
        words = ("placed", "forecast, slope", "best at its cost")
        for heading in ("full steps", "placed", "forecast, slope", "FLOPs", self.metric, "best at its cost"):
            table.add_column(heading, justify="left" if heading in words else "right")
        for trial in self.trials:
            listed = " ".join(map(str, trial.schedule)) if trial in self.best else ""
            cost = f"{trial.speedup:.2f}x", f"{trial.quality:.2f}"
            table.add_row(str(trial.full_steps), trial.placed, trial.told, *cost, listed)
        sink = io.StringIO()
        Console(file=sink, width=80, color_system=None, legacy_windows=False).print(table)
        return sink.getvalue()


def _plot(axes: Any, trials: Sequence[Trial], style: str, label: str) -> None:
    ordered = sorted(trials, key=lambda trial: trial.speedup)
    axes.plot([each.speedup for each in ordered], [each.quality for each in ordered], style, label=label)
