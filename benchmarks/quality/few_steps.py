"""From how long a step on caching harms: few-step generations of the trained example DiT, cached and not.

    python benchmarks quality few-steps               # an hour on one core; again to resume
    python benchmarks quality few-steps --chunks 1    # 8 noises instead of 32

Without guidance, float32. A sampler takes `n` steps from the same noises, wholly computed and under DuCa's schedule
(N = 5, R = 0.9), which is forced, so that no rule of the tracker computes a step of its own accord. Distances are PSNRs
in dB, pixel range 2, the mean over the noises; differences are paired, with standard errors.

*Own*: cached to computed images of the same `n`. *Exact*: to those of 100 steps of DPM-Solver++ 2M from the same noise,
which are also those of a rectified flow over the same weights. *Over fewer steps*: how much nearer to the exact the
cached images are than the sampler's own, wholly computed, in fewer steps at the FLOPs of the cached run: interpolated
between the two whole numbers of steps, and rounded up. A stochastic sampler has no exact image. *Label*: the probability
that the examples' classifier gives to the label asked for. *Grain*: the energy of what a 3x3 mean takes away, as a share
of that of the exact images: noise that is left raises it, blur lowers it.

The *stride* of a step is how far the timestep moved since the call before, its *reach* how far since the last full step,
both as shares of the first timestep.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

import duca_compile
from duca_compile import Mode, Options
from duca_compile.generations import long_steps
from duca_compile.methods.base import FULL, Place
from duca_compile.methods.duca import DuCa
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from face.pages import RESULTS, save
from figures import spread
from quality.forced import CHUNK, Bench
from quality.samplers import SAMPLERS, SPACED, TrainedFlow
from sampling import initial_noise, trained_dit

STEPS = (4, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50)


OF_DIFFUSION = tuple(name for name, sampler in SAMPLERS.items() if not isinstance(sampler, TrainedFlow))
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """DuCa's schedule, but a step is FULL where its stride or its reach is larger; it then opens a cycle."""

    stride: float
    reach: float

    def modes(self, grid: Sequence[float]) -> list[str]:
        clock, since, full, before = Options(DuCa()).method.start(), 0, grid[0], grid[0]
        modes = []
        for step, t in enumerate(grid):
            far = before - t > self.stride * grid[0] or full - t > self.reach * grid[0]
            modes.append(FULL if far else clock.next(Place(step, since)))
            full, since = (t, 0) if modes[-1] == FULL else (full, since)
            before, since = t, since + 1
        return modes


ORDERS = {"DuCa": "conservative-first", "conservative": "conservative", "aggressive": "aggressive"}
RULE = Rule(long_steps.STRIDE, long_steps.REACH)


def row(bench: Bench, name: str, steps: int, orders: Sequence[str]) -> Cells:
    grid = SAMPLERS[name].grid(steps)
    moves = [(before - t) / grid[0] for before, t in itertools.pairwise(grid)]
    modes = {order: Options(DuCa(order=ORDERS[order])).sequence(steps) for order in ORDERS}
    found = bench.measure(name, modes["DuCa"])
    own = [spread(bench.measure(name, modes[order])["own"]) if order in {"DuCa", *orders} else "" for order in ORDERS]
    cells = [
        name,
        str(steps),
        f"{min(moves):.3f} to {max(moves):.3f}",
        f"{bench.cost(modes['DuCa']):.2f}",
        *own,
        *(spread(found[what]) if what in found else "" for what in ("exact computed", "exact", "over", "over up")),
        *cheap_cells(found),
    ]
    return tuple(cells)


def ruled_row(bench: Bench, name: str, steps: int) -> Cells:
    modes = RULE.modes(SAMPLERS[name].grid(steps))
    counts = " / ".join(str(modes.count(mode)) for mode in Mode)
    cells = [name, str(steps), counts, f"{steps / bench.cost(modes):.2f}x"]
    if set(modes) == {Mode.FULL}:
        return (*cells, *[""] * 5)
    found = bench.measure(name, modes)
    cells += [spread(found[what]) if what in found else "" for what in ("own", "over", "over up")]
    return (*cells, *cheap_cells(found))


def cheap_cells(found: dict[str, Tensor]) -> list[str]:
    """Label and grain, of computed, cached and fewer steps."""
    return [
        " / ".join(f"{found[what + of].mean():.2f}" for of in (" computed", "", " fewer"))
        for what in ("label", "grain")
    ]


def promise(steps: int) -> list[Cells]:
    """How many steps the tracker itself lets be cached, without a session, by sampler."""
    plain: dict[str, Any] = {"clip_sample": False}
    kinds: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
        "DDIM": (diffusers.DDIMScheduler, plain, {}),
        "DDIM, eta = 1": (diffusers.DDIMScheduler, plain, {"eta": 1.0}),
        "DDPM": (diffusers.DDPMScheduler, plain, {}),
        "Euler ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}, {}),
        "DPM-Solver++ 2M SDE": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}, {}),
    }
    return [(name, str(steps), told(*kind, steps)) for name, kind in kinds.items()]


@torch.no_grad()
def told(kind: Any, given: dict[str, Any], in_step: dict[str, Any], steps: int) -> str:
    torch.compiler.reset()
    model, labels = trained_dit(), torch.arange(2)
    fast = torch.compile(model, backend="duca", options={"method": "duca", "inner": "eager", "strict": True})
    scheduler, generator = kind(**SPACED, **given), torch.Generator().manual_seed(1)
    scheduler.set_timesteps(steps)
    x = initial_noise(2, 0) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = fast(scheduler.scale_model_input(x, t), t.float().expand(2), labels)
        x = scheduler.step(output, t, x, generator=generator, **in_step).prev_sample
    counts = duca_compile.stats(model).steps
    return " / ".join(str(counts[mode]) for mode in Mode)


HEADINGS = (
    "sampler", "steps", "strides", "full steps' FLOPs", "own: DuCa", "own: conservative", "own: aggressive",
    "exact: computed", "exact: DuCa", "over fewer steps", "the same, rounded up",
    "label: computed / DuCa / fewer steps", "grain: the same",
)  # fmt: skip
RULED = (
    "sampler", "steps", "full / conservative / aggressive", "FLOPs speed-up", "own", "over fewer steps",
    "the same, rounded up",
    "label: computed / cached / fewer steps", "grain: the same",
)  # fmt: skip
PROMISE = ("sampler", "steps", "full / conservative / aggressive")


def main(arguments: Sequence[str]) -> None:
    asked = parser("quality few-steps", __doc__)
    asked.add_argument("--chunks", type=int, default=4, help=f"of {CHUNK} noises each")
    asked.add_argument("--samplers", nargs="*", choices=OF_DIFFUSION, default=OF_DIFFUSION, metavar="SAMPLER")
    asked.add_argument("--steps", nargs="*", type=int, default=STEPS)
    asked.add_argument("--orders", nargs="*", choices=ORDERS, default=list(ORDERS), help="cached with these beside")
    asked.add_argument("--forced-only", action="store_true", help="leave out what the tracker does by itself")
    asked.add_argument("--out", type=Path, default=RESULTS)
    given = asked.parse_args(arguments)
    bench = Bench(given.chunks)
    grid = [(name, steps) for name in given.samplers for steps in given.steps]
    blocks = [
        Block("DuCa's schedule, forced", HEADINGS, [row(bench, name, steps, given.orders) for name, steps in grid]),
        Block(
            f"A step is full where its stride is above {RULE.stride:g}, or its reach above {RULE.reach:g}",
            RULED,
            [ruled_row(bench, name, steps) for name, steps in grid],
        ),
    ]
    if not given.forced_only:
        rows = [cells for steps in (20, 50) for cells in promise(steps)]
        blocks.append(Block("What the tracker caches of its own accord, without a session", PROMISE, rows))
    introduction = (
        f"{CHUNK * given.chunks} noises, means and standard errors. What the columns mean: "
        "`python benchmarks quality few-steps --help`."
    )
    page = Page("Few steps", origin("quality few-steps", arguments), blocks, introduction)
    save(page, given.out, "few_steps")
    show(page)
