"""Images of few steps in forced modes, kept in files, and what is measured of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest import mock

import diffusers
import torch
from torch import Tensor

import duca_compile
from classifier import trained_classifier
from duca_compile import Mode
from duca_compile.methods.cycles import CycleClock
from face.pages import ROOT
from figures import decibels
from quality.samplers import SAMPLERS, Flow, Sampler, Scheduled
from sampling import initial_noise, trained_dit

OUTPUT = ROOT / "output" / "few_steps"
CHUNK = 8


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
        """Of every noise: what the heading of `few_steps.py` explains. `computed` is of as many steps, `fewer` rounded up."""
        sampler, flops = SAMPLERS[name], self.cost(modes)
        made, own, exact = (
            self.images(name, sampler, modes),
            self.computed(name, sampler, len(modes)),
            self.exact(sampler),
        )
        few, more = (self.computed(name, sampler, steps) for steps in (int(flops), int(flops) + 1))
        found = {"own": decibels(made, own)}
        for what, images in ((("", made)), (" computed", own), (" fewer", more)):
            found["label" + what] = self.label(images)
            found["grain" + what] = grain(images) / grain(exact)
        if not sampler.stochastic:
            found |= {"exact": decibels(made, exact), "exact computed": decibels(own, exact)}
            up, down = decibels(more, exact), decibels(few, exact)
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


def grain(images: Tensor) -> Tensor:
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1)
    return (images[:, :, 1:-1, 1:-1] - blurred).square().mean(dim=(1, 2, 3))
