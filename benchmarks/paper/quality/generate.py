"""Generates the images of a setting, once, and the error of each of its steps."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import duca_compile
from paper.quality.settings import Setting
from quality.samplers import SAMPLERS
from sampling import initial_noise

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
SEED = 0


@dataclass(frozen=True)
class Bench:
    """What all settings share: the model, how many steps DDIM takes uncached, how many samples, and where results are
    kept."""

    model: nn.Module
    steps: int
    samples: int
    folder: Path

    def path(self, setting: Setting, kind: str) -> Path:
        """By what is done, not by its name: parts share settings."""
        what = (setting.method, setting.fewer, min(setting.batch, self.samples), self.steps, self.samples)
        return self.folder / f"{kind}-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.pt"

    @property
    def example(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.tensor([0])


@dataclass(frozen=True)
class Made:
    """Images `[n, 1, 28, 28]`, how many times fewer FLOPs they took than uncached, and full steps of a generation."""

    images: Tensor
    speedup: float
    full: float


def compiled(bench: Bench, setting: Setting) -> Any:
    """Graphs as the backend makes them, run by PyTorch: Inductor's would give the same images, to rounding."""
    if setting.method is None:
        return bench.model
    torch.compiler.reset()
    options: dict[str, Any] = {"method": setting.method, "inner": "eager", "strict": True}
    return torch.compile(bench.model, backend="duca", options=options, dynamic=False)


def made(bench: Bench, setting: Setting) -> Made:
    path = bench.path(setting, "images")
    if not path.exists():
        keep(vars(_made(bench, setting)), path)
        print(setting.name, flush=True)
    return Made(**torch.load(path))


def keep(found: Any, path: Path) -> None:
    """Whole or not at all, so that several processes may make the parts of one folder."""
    own = path.with_suffix(f".{os.getpid()}")
    torch.save(found, own)
    own.rename(path)


def _made(bench: Bench, setting: Setting) -> Made:
    run, steps = compiled(bench, setting), round(bench.steps / setting.fewer)
    noise, labels = initial_noise(bench.samples, SEED), torch.arange(bench.samples) % 10
    parts = [
        generated(run, part, which, steps)
        for part, which in zip(noise.split(setting.batch), labels.split(setting.batch), strict=True)
    ]
    if setting.method is None:
        return Made(torch.cat(parts), bench.steps / steps, steps)
    stats = duca_compile.stats(run)
    return Made(torch.cat(parts), stats.speedup or 1.0, stats.steps["full"] / len(parts))


@torch.no_grad()
def generated(run: Denoiser, noise: Tensor, labels: Tensor, steps: int) -> Tensor:
    with duca_compile.session(steps=steps):
        return SAMPLERS["DDIM"].images(run, noise, labels, steps, None)


def errors(bench: Bench, setting: Setting, samples: int = 8) -> list[float]:
    """Of each step: how far its output is from what the model computes of the same input, relative to that (L2), the
    mean over the samples."""
    path = bench.path(setting, "errors")
    if not path.exists():
        run, found, count = compiled(bench, setting), list[float](), min(samples, bench.samples)

        def both(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            output, want = run(x, t, y), bench.model(x, t, y)
            off = (output - want).flatten(1).norm(dim=1) / want.flatten(1).norm(dim=1)
            found.append(float(off.mean()))
            return output

        generated(both, initial_noise(count, SEED), torch.arange(count) % 10, bench.steps)
        keep(found, path)
        print(setting.name, flush=True)
    return torch.load(path)
