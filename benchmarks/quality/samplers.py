"""Samplers over the trained example DiT, of which benchmarks compare cached images with computed ones.

Without guidance, but for two. All but the trained flow are of one model: a rectified flow over its weights and the
diffusion samplers solve the same equation, so without fresh noise their images from the same noise have one limit, which
100 steps of DPM-Solver++ 2M come close to. The trained flow is of a model of its own.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from dit import DiT
from sampling import EMPTY_LABEL, FLOW_WEIGHTS, SCHEDULE, WEIGHTS, trained_dit, trained_flow_dit

SPACED = {name: value for name, value in SCHEDULE.items() if name != "clip_sample"}
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]


def stepped(
    scheduler: Any, timesteps: Tensor, model: Denoiser, x: Tensor, labels: Tensor, given: dict[str, Any]
) -> Tensor:
    """Images of the latents `x`; each step of the scheduler is `given` more."""
    for t in timesteps:
        output = model(scheduler.scale_model_input(x, t), t.float().expand(len(x)), labels)
        x = scheduler.step(output, t, x, **given).prev_sample
    return x.clamp(-1, 1)


@dataclass(frozen=True)
class Scheduled:
    """A scheduler of `diffusers`; `start` below 1 is image to image, from that share of the timesteps on."""

    kind: Any
    start: float = 1.0
    eta: float | None = None

    @property
    def stochastic(self) -> bool:
        return self.eta is not None or self.kind in (diffusers.EulerAncestralDiscreteScheduler, diffusers.DDPMScheduler)

    def grid(self, steps: int) -> list[float]:
        return (self._scheduler(steps)[1] / 1000).tolist()

    def images(self, model: Denoiser, noise: Tensor, labels: Tensor, steps: int, source: Tensor | None) -> Tensor:
        scheduler, timesteps = self._scheduler(steps)
        generator = torch.Generator().manual_seed(1)
        x = noise * scheduler.init_noise_sigma
        if source is not None:
            x = scheduler.add_noise(source, noise, timesteps[:1].expand(len(noise)).long())
        given: dict[str, Any] = {"generator": generator} if self.stochastic else {}
        given |= {} if self.eta is None else {"eta": self.eta}
        return stepped(scheduler, timesteps, model, x, labels, given)

    def _scheduler(self, steps: int) -> tuple[Any, Tensor]:
        """`steps` of them from `start` on, as a pipeline leaves out those before it."""
        extra = {"clip_sample": False} if self.kind in (diffusers.DDIMScheduler, diffusers.DDPMScheduler) else {}
        scheduler = self.kind(**SPACED, **extra)
        scheduler.set_timesteps(round(steps / self.start))
        return scheduler, scheduler.timesteps[-steps:]


@dataclass(frozen=True)
class Placed:
    """A solver of `diffusers` that takes none but some of a sampler's steps: `full` ones among `of` timesteps.

    DDIM, which takes no timesteps but its own, is the solver DPM-Solver++ of order 1 (arXiv 2211.01095, section 4).
    """

    sampler: Scheduled
    full: tuple[int, ...]
    of: int
    stochastic = False
    start = 1.0

    def grid(self, steps: int) -> list[float]:
        return [self.sampler.grid(self.of)[step] for step in self.full]

    def images(self, model: Denoiser, noise: Tensor, labels: Tensor, steps: int, source: Tensor | None) -> Tensor:
        scheduler, timesteps = self._scheduler()
        return stepped(scheduler, timesteps, model, noise * scheduler.init_noise_sigma, labels, {})

    def _scheduler(self) -> tuple[Any, Tensor]:
        kind = self.sampler.kind
        if kind is diffusers.DDIMScheduler:
            scheduler = diffusers.DPMSolverMultistepScheduler(**SPACED, solver_order=1)
        else:
            scheduler = kind(**SPACED)
        timesteps = (1000 * torch.tensor(self.grid(len(self.full)))).round().long()
        scheduler.set_timesteps(len(timesteps))
        kept = scheduler.alphas_cumprod[timesteps]
        scheduler.sigmas = torch.cat([((1 - kept) / kept) ** 0.5, torch.zeros(1)])
        scheduler.timesteps = timesteps
        return scheduler, timesteps


@dataclass(frozen=True)
class Flow:
    """Rectified flow over the weights of the cosine schedule: `x_s = (1 - s) x0 + s noise`, whose velocity is
    `noise - x0`; the network is asked at the timestep of equal signal-to-noise ratio. Euler's method.
    """

    shift: float
    start: float = 1.0
    stochastic = False

    def grid(self, steps: int) -> list[float]:
        return shares(self.shift, steps, self.start)[:-1]

    def images(self, model: Denoiser, noise: Tensor, labels: Tensor, steps: int, source: Tensor | None) -> Tensor:
        way = shares(self.shift, steps, self.start)
        x = noise if source is None else (1 - way[0]) * source + way[0] * noise
        for s, after in itertools.pairwise(way):
            norm = (s**2 + (1 - s) ** 2) ** 0.5
            alpha, sigma = (1 - s) / norm, s / norm
            v = model(x / norm, torch.tensor(self._timestep(s)).expand(len(x)), labels)
            x = x + (after - s) * ((sigma - alpha) * x / norm + (alpha + sigma) * v)
        return x.clamp(-1, 1)

    @cached_property
    def _table(self) -> np.ndarray:
        alphas = diffusers.DDIMScheduler(**SPACED).alphas_cumprod.double().numpy()
        return (1 - alphas) ** 0.5 / (alphas**0.5 + (1 - alphas) ** 0.5)

    def _timestep(self, share: float) -> float:
        return float(np.interp(share, self._table, np.arange(1000.0)))


@dataclass(frozen=True)
class TrainedFlow:
    """The flow that a model was trained on: it predicts `noise - x0` of `x_s = (1 - s) x0 + s noise` at the timestep
    `1000 s`. Euler's method.
    """

    shift: float
    start = 1.0
    stochastic = False

    def grid(self, steps: int) -> list[float]:
        return shares(self.shift, steps)[:-1]

    def images(self, model: Denoiser, noise: Tensor, labels: Tensor, steps: int, source: Tensor | None) -> Tensor:
        x = noise
        for s, after in itertools.pairwise(shares(self.shift, steps)):
            x = x + (after - s) * model(x, torch.full((len(x),), 1000 * s), labels)
        return x.clamp(-1, 1)


def shares(shift: float, steps: int, start: float = 1.0) -> list[float]:
    """Of noise, from `start` on to 0, under a time shift (arXiv 2403.03206): one more than steps."""
    s = np.linspace(1, 0, round(steps / start) + 1)[-steps - 1 :]
    return (shift * s / (1 + (shift - 1) * s)).tolist()


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance (arXiv 2207.12598): prompt and empty prompt in one batch, or in two `calls` a step."""

    sampler: Scheduled
    calls: int
    scale: float = 1.25
    stochastic = False

    @property
    def start(self) -> float:
        return self.sampler.start

    def grid(self, steps: int) -> list[float]:
        return self.sampler.grid(steps)

    def images(self, model: Denoiser, noise: Tensor, labels: Tensor, steps: int, source: Tensor | None) -> Tensor:
        empty = torch.full_like(labels, EMPTY_LABEL)
        both = torch.cat([labels, empty])

        def guided(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            if self.calls == 2:
                with_prompt, without = model(x, t, y), model(x, t, empty)
            else:
                with_prompt, without = model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
            return without + self.scale * (with_prompt - without)

        return self.sampler.images(guided, noise, labels, steps, source)


Sampler = Scheduled | Placed | Flow | TrainedFlow | Guided


def weights(sampler: Sampler) -> Path:
    """Of the model that it samples."""
    return FLOW_WEIGHTS if isinstance(sampler, TrainedFlow) else WEIGHTS


def trained(sampler: Sampler) -> DiT:
    return trained_flow_dit() if isinstance(sampler, TrainedFlow) else trained_dit()


SAMPLERS: dict[str, Sampler] = {
    "DDIM": Scheduled(diffusers.DDIMScheduler),
    "flow, shift 3": Flow(3),
    "flow, shift 1": Flow(1),
    "trained flow, shift 3": TrainedFlow(3),
    "trained flow, shift 1": TrainedFlow(1),
    "DPM-Solver++ 2M": Scheduled(diffusers.DPMSolverMultistepScheduler),
    "UniPC": Scheduled(diffusers.UniPCMultistepScheduler),
    "DDIM, eta = 1": Scheduled(diffusers.DDIMScheduler, eta=1.0),
    "Euler ancestral": Scheduled(diffusers.EulerAncestralDiscreteScheduler),
    "DDIM from half the noise": Scheduled(diffusers.DDIMScheduler, start=0.5),
    "flow, shift 1, from half": Flow(1, start=0.5),
    "DDIM, guidance in one batch": Guided(Scheduled(diffusers.DDIMScheduler), 1),
    "DDIM, guidance in two calls": Guided(Scheduled(diffusers.DDIMScheduler), 2),
}
