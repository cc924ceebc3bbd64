"""How what was measured is shown: a block, an entry of the JSON file, a figure."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from cycle import COUNTS, CYCLE
from duca_compile import Mode
from face.block import Block
from figures import Ratios
from models.architectures import dit
from models.shapes import Shape


@dataclass(frozen=True)
class Sizes:
    tokens: int
    width: int
    depth: int
    batch: int

    @property
    def shape(self) -> Shape:
        """Heads are 64 wide."""
        side = 2 * math.isqrt(self.tokens)
        return dit(self.batch, size=side, width=self.width, depth=self.depth, heads=self.width // 64)


@dataclass(frozen=True)
class Measured:
    """Seconds of a plain step and of one in each recipe; `ratios`, of each cached step's to its plain one's."""

    plain: float
    seconds: dict[Mode, float]
    ratios: dict[Mode, list[float]]

    @property
    def cached(self) -> float:
        """Seconds of a cached step, on average over a cycle."""
        return sum(COUNTS[mode] * self.seconds[mode] for mode in Mode) / CYCLE

    def times(self, unit: float) -> "Measured":
        return replace(self, plain=self.plain * unit, seconds={mode: unit * own for mode, own in self.seconds.items()})

    def speedup(self, quantile: float = 0.5) -> float:
        return CYCLE / sum(COUNTS[mode] * Ratios(self.ratios[mode]).at(quantile) for mode in Mode)


@dataclass(frozen=True)
class Predicted:
    """Seconds of a plain step and of a cached one, on average over a cycle; speed-ups in time and in FLOPs."""

    plain: float
    cached: float
    speedup: float
    flops: float


def entry(sizes: Sizes, found: Measured, foretold: Predicted) -> dict[str, Any]:
    seconds = {"plain": found.plain, **{mode.value: found.seconds[mode] for mode in Mode}}
    spread = {"from": found.speedup(0.9), "to": found.speedup(0.1)}
    measured = {"seconds": seconds, "speedup": found.speedup(), **spread}
    return {**asdict(sizes), "measured": measured, "predicted": asdict(foretold)}


def block(
    sweeps: dict[str, list[Sizes]], measured: dict[Sizes, Measured], predict: Callable[[Sizes], Predicted]
) -> Block:
    rows, errors = [], []
    for name, swept in sweeps.items():
        for sizes in swept:
            found, foretold = measured[sizes], predict(sizes)
            cells = [f"{name} {getattr(sizes, name)}"]
            for unit, has, said in (
                (1e3, found.plain, foretold.plain),
                (1e3, found.cached, foretold.cached),
                (1, found.speedup(), foretold.speedup),
            ):
                errors.append(said / has - 1)
                cells += [f"{unit * has:.2f} / {unit * said:.2f}", f"{errors[-1]:+.0%}"]
            rows.append((*cells, f"{foretold.flops:.2f}"))
    worst = [max(map(abs, errors[each::3])) for each in range(3)]
    note = "Largest error: {:.0%} of a plain step, {:.0%} of a cached one, {:.0%} of a speed-up.".format(*worst)
    title = "Measured / predicted after calibration, and the error of the prediction"
    return Block(title, ("", "plain step (ms)", "", "cached step (ms)", "", "speed-up", "", "in FLOPs"), rows, (note,))


def figure(
    sweeps: dict[str, list[Sizes]], measured: dict[Sizes, Measured], predict: Callable[[Sizes], Predicted], title: str
) -> Figure:
    """Speed-ups over each swept size, the others at their base; bars reach from the first to the ninth tenth."""
    drawn = Figure(figsize=(11, 3.6), layout="constrained")
    panels = drawn.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for axes, (name, swept) in zip(panels, sweeps.items(), strict=True):
        values = [getattr(sizes, name) for sizes in swept]
        between = sorted({*values, *(round(values[0] * (values[-1] / values[0]) ** (at / 40)) for at in range(41))})
        curve = [predict(replace(swept[0], **{name: value})) for value in between]
        axes.plot(between, [at.flops for at in curve], color="0.55", label="promised by FLOPs")
        axes.plot(between, [at.speedup for at in curve], "--", color="tab:blue", label="predicted in time")
        found = [measured[sizes] for sizes in swept]
        medians = [each.speedup() for each in found]
        spread = [
            [middle - each.speedup(0.9) for middle, each in zip(medians, found, strict=True)],
            [each.speedup(0.1) - middle for middle, each in zip(medians, found, strict=True)],
        ]
        axes.errorbar(values, medians, spread, fmt="o", color="tab:red", capsize=3, label="measured")
        others = asdict(swept[0])
        del others[name]
        axes.set_title(", ".join(f"{other} {value}" for other, value in others.items()), fontsize=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        axes.minorticks_off()
        axes.set_xlabel(name if name != "depth" else "depth (blocks)")
        axes.grid(alpha=0.25)
    first = drawn.axes[0]
    first.set_ylabel("times as fast as torch.compile")
    first.set_ylim(1, CYCLE + 0.5)
    first.legend(frameon=False, loc="lower right", fontsize=9)
    drawn.suptitle(f"A cycle of {CYCLE} steps: {title}", fontsize=10)
    return drawn
