"""From how long a step on caching harms: few-step generations of the trained example DiT, cached and not.

    python benchmarks/few_steps.py --markdown benchmarks/results/few_steps.md    # an hour on one core; again to resume
    python benchmarks/few_steps.py --chunks 1                                    # 8 noises instead of 32

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

import argparse
import itertools
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import diffusers
import torch
from torch import Tensor

import duca_compile
from classifier import trained_classifier
from duca_compile import Mode, Options
from duca_compile.generations import long_steps
from duca_compile.methods.base import FULL, Place
from duca_compile.methods.cycles import CycleClock
from duca_compile.methods.duca import DuCa
from samplers import SAMPLERS, SPACED, Flow, Sampler, Scheduled
from sampling import initial_noise, trained_dit

OUTPUT = ROOT / "output" / "few_steps"
CHUNK = 8
STEPS = (4, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50)


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


class Bench:
    """Images by sampler, number of steps and modes; what was made once is kept in a file."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.labels = torch.arange(CHUNK) % 10
        self.model, self.judge = trained_dit(), trained_classifier()
        self.fast = torch.compile(
            self.model, backend="duca", options={"method": "duca", "inner": "eager", "strict": True}
        )
        given = torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.tensor([0])
        (graph,) = duca_compile.explain(self.model, *given, duca_options={"method": "duca", "strict": True}).graphs
        self._cost: dict[str, float] = {mode: graph.flops[mode] / graph.flops[Mode.FULL] for mode in Mode}
        OUTPUT.mkdir(parents=True, exist_ok=True)

    def cost(self, modes: Sequence[str]) -> float:
        """FLOPs in full steps."""
        return sum(self._cost[mode] for mode in modes)

    def exact(self, sampler: Sampler) -> Tensor:
        if isinstance(sampler, Flow) and sampler.start < 1:
            return self.computed(f"exact flow {sampler.start}", sampler, 100)
        solver = Scheduled(diffusers.DPMSolverMultistepScheduler, sampler.start)
        return self.computed(f"exact {sampler.start}", solver, round(100 * sampler.start))

    def computed(self, name: str, sampler: Sampler, steps: int) -> Tensor:
        return self.images(name, sampler, [Mode.FULL] * steps)

    def images(self, name: str, sampler: Sampler, modes: Sequence[str]) -> Tensor:
        """`[n, 1, 28, 28]` in [-1, 1], in so many steps, of these modes."""
        return torch.cat([self._chunk(name, sampler, modes, chunk) for chunk in range(self.chunks)])

    @torch.no_grad()
    def _chunk(self, name: str, sampler: Sampler, modes: Sequence[str], chunk: int) -> Tensor:
        path = OUTPUT / f"{name} {''.join(mode[0] for mode in modes)} {chunk}.pt"
        if not path.exists():
            source, seed = None, chunk
            if sampler.start < 1:
                source, seed = self.exact(SAMPLERS["DDIM"])[chunk * CHUNK :][:CHUNK], 100 + chunk
            model = self.fast if set(modes) != {Mode.FULL} else self.model
            before = Counter(duca_compile.stats(self.model).steps)
            with duca_compile.session(steps=len(modes)), forced(modes):
                made = sampler.images(model, initial_noise(CHUNK, seed), self.labels, len(modes), source)
            ran = Counter(duca_compile.stats(self.model).steps) - before
            assert model is self.model or ran == Counter(modes), (ran, modes)
            torch.save(made, path)
            print(path.stem, flush=True)
        return torch.load(path)

    def measure(self, name: str, modes: Sequence[str]) -> dict[str, Tensor]:
        """Of every noise: what the heading of this file explains. `computed` is of as many steps, `fewer` rounded up."""
        sampler, flops = SAMPLERS[name], self.cost(modes)
        made, own, exact = (
            self.images(name, sampler, modes),
            self.computed(name, sampler, len(modes)),
            self.exact(sampler),
        )
        few, more = (self.computed(name, sampler, steps) for steps in (int(flops), int(flops) + 1))
        found = {"own": psnr(made, own)}
        for what, images in ((("", made)), (" computed", own), (" fewer", more)):
            found["label" + what] = self.label(images)
            found["grain" + what] = grain(images) / grain(exact)
        if not sampler.stochastic:
            found |= {"exact": psnr(made, exact), "exact computed": psnr(own, exact)}
            up, down = psnr(more, exact), psnr(few, exact)
            found |= {
                "over": found["exact"] - down - (flops - int(flops)) * (up - down),
                "over up": found["exact"] - up,
            }
        return found

    @torch.no_grad()
    def label(self, images: Tensor) -> Tensor:
        wanted = self.labels.repeat(self.chunks)
        return self.judge(images)[0].softmax(1).gather(1, wanted[:, None])[:, 0]


def forced(modes: Sequence[str]) -> Any:
    """The steps of a session that counts run in these modes."""
    return mock.patch.object(CycleClock, "next", lambda self, place: modes[place.step])


def psnr(images: Tensor, want: Tensor) -> Tensor:
    return 10 * torch.log10(4 / (images - want).square().mean(dim=(1, 2, 3)).clamp_min(1e-10))


def grain(images: Tensor) -> Tensor:
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1)
    return (images[:, :, 1:-1, 1:-1] - blurred).square().mean(dim=(1, 2, 3))


def row(bench: Bench, name: str, steps: int, orders: Sequence[str]) -> str:
    grid = SAMPLERS[name].grid(steps)
    moves = [(before - t) / grid[0] for before, t in itertools.pairwise(grid)]
    modes = {order: Options(DuCa(order=ORDERS[order])).sequence(steps) for order in ORDERS}
    found = bench.measure(name, modes["DuCa"])
    own = [mean(bench.measure(name, modes[order])["own"]) if order in {"DuCa", *orders} else "" for order in ORDERS]
    cells = [
        name,
        str(steps),
        f"{min(moves):.3f} to {max(moves):.3f}",
        f"{bench.cost(modes['DuCa']):.2f}",
        *own,
        *(mean(found[what]) if what in found else "" for what in ("exact computed", "exact", "over", "over up")),
        *cheap_cells(found),
    ]
    return f"| {' | '.join(cells)} |"


def ruled_row(bench: Bench, name: str, steps: int) -> str:
    modes = RULE.modes(SAMPLERS[name].grid(steps))
    counts = " / ".join(str(modes.count(mode)) for mode in Mode)
    cells = [name, str(steps), counts, f"{steps / bench.cost(modes):.2f}x"]
    if set(modes) == {Mode.FULL}:
        return f"| {' | '.join(cells)} | | | | | |"
    found = bench.measure(name, modes)
    cells += [mean(found[what]) if what in found else "" for what in ("own", "over", "over up")]
    return f"| {' | '.join(cells + cheap_cells(found))} |"


def cheap_cells(found: dict[str, Tensor]) -> list[str]:
    """Label and grain, of computed, cached and fewer steps."""
    return [
        " / ".join(f"{found[what + of].mean():.2f}" for of in (" computed", "", " fewer"))
        for what in ("label", "grain")
    ]


def mean(values: Tensor) -> str:
    return f"{values.mean():.1f} ± {values.std() / len(values) ** 0.5:.1f}"


def promise(steps: int) -> list[str]:
    """How many steps the tracker itself lets be cached, without a session, by sampler."""
    plain: dict[str, Any] = {"clip_sample": False}
    kinds: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
        "DDIM": (diffusers.DDIMScheduler, plain, {}),
        "DDIM, eta = 1": (diffusers.DDIMScheduler, plain, {"eta": 1.0}),
        "DDPM": (diffusers.DDPMScheduler, plain, {}),
        "Euler ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}, {}),
        "DPM-Solver++ 2M SDE": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}, {}),
    }
    return [f"| {name} | {steps} | {told(*kind, steps)} |" for name, kind in kinds.items()]


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


def table(headings: Sequence[str], rows: Iterable[str]) -> str:
    return "\n".join([f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 1), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=4, help=f"of {CHUNK} noises each")
    parser.add_argument("--samplers", nargs="*", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--steps", nargs="*", type=int, default=STEPS)
    parser.add_argument("--orders", nargs="*", choices=ORDERS, default=list(ORDERS), help="cached with these beside")
    parser.add_argument("--forced-only", action="store_true", help="leave out what the tracker does by itself")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    args = parser.parse_args()
    bench = Bench(args.chunks)
    asked = [(name, steps) for name in args.samplers for steps in args.steps]
    forced_rows = [row(bench, name, steps, args.orders) for name, steps in asked]
    ruled_rows = [ruled_row(bench, name, steps) for name, steps in asked]
    told_rows = [line for steps in (() if args.forced_only else (20, 50)) for line in promise(steps)]
    parts = [
        f"{CHUNK * args.chunks} noises, means and standard errors; {platform.machine()}, CPU, torch {torch.__version__}. "
        "What the columns mean: `benchmarks/few_steps.py`.",
        "DuCa's schedule, forced:",
        table(HEADINGS, forced_rows),
        f"A step is full where its stride is above {RULE.stride:g}, or its reach above {RULE.reach:g}:",
        table(RULED, ruled_rows),
    ]
    if told_rows:
        parts += ["What the tracker caches of its own accord, without a session:", table(PROMISE, told_rows)]
    text = "\n\n".join(parts)
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
