"""What the clean image looks like, as the exact denoiser of a known distribution and the trained example DiT see it.

Along a path of either, latents turn and predictions carry noise as in real sampling.
"""

from functools import lru_cache

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sampling import SCHEDULE, initial_noise, trained_dit
from sequences.samplers import Evaluation, Sampler
from zoo.case import noise

SIDE = 16
PROMPTS = 4
EMPTY = 3
"""The prompt that guidance leads away from."""
_MODES = 3


def _basis() -> Tensor:
    """Orthonormal cosines, `[frequency, place]`."""
    place = torch.arange(SIDE).double()
    rows = torch.cos(torch.pi / SIDE * (place + 0.5) * place[:, None]) * (2 / SIDE) ** 0.5
    return torch.cat([rows[:1] / 2**0.5, rows[1:]])


BASIS = _basis()
_RADIUS = torch.arange(SIDE).double().square()
SPREAD = 8 / (1 + _RADIUS + _RADIUS[:, None]) ** 1.1
"""The variance of each frequency of an image around its mode: as in photographs, it falls with the frequency."""
_MEANS = torch.stack(
    [noise(_MODES, SIDE, SIDE, seed=50 + prompt).double() * SPREAD.sqrt() for prompt in range(PROMPTS)]
)


def image(index: int, batch: int) -> Tensor:
    """One of a few given images, `[batch, side, side]`."""
    waves = _MEANS[index % PROMPTS, 0] + noise(SIDE, SIDE, seed=70 + index).double() * SPREAD.sqrt()
    return (BASIS.T @ waves @ BASIS).float().repeat(batch, 1, 1)


def exact(at: Evaluation, prompt: int) -> Tensor:
    """The mean of the images that could have become `at.x`, `[B, side, side]`, of a mixture of Gaussians."""
    waves = BASIS @ at.x.double() @ BASIS.T
    means = _MEANS[prompt]
    variance = at.alpha**2 * SPREAD + at.sigma**2
    off = waves[:, None] - at.alpha * means
    likely = torch.softmax(-0.5 * (off.square() / variance).sum((-2, -1)), 1)
    clean = means + at.alpha * SPREAD / variance * off
    return BASIS.T @ (likely[..., None, None] * clean).sum(1) @ BASIS


TRAINED_SEEDS = 2
TRAINED_SKIPS = (0, 8)
_STEPS = 20


@lru_cache
def _trained() -> list[list[tuple[Evaluation, Tensor]]]:
    """Paths of the example DiT under DDIM, of two noises, from the start and over one image, with its clean images."""
    with torch.no_grad():
        model, schedule = trained_dit(), DDIMScheduler(**{**SCHEDULE, "clip_sample": False})
        schedule.set_timesteps(_STEPS)
        noises = initial_noise(TRAINED_SEEDS, 5)
        given = noise(1, 1, 28, 28, seed=3).cumsum(2).cumsum(3)
        given = given / given.abs().max()
        paths: list[list[tuple[Evaluation, Tensor]]] = [[] for _ in range(TRAINED_SEEDS * len(TRAINED_SKIPS))]
        x = noises
        for index, t in enumerate(schedule.timesteps):
            if index == TRAINED_SKIPS[1]:
                x = torch.cat([x, schedule.add_noise(given.expand_as(noises), noises, t.reshape(1))])
            share = float(schedule.alphas_cumprod[t])
            alpha, sigma = share**0.5, (1 - share) ** 0.5
            v = model(x, torch.full((len(x),), float(t)), torch.ones(len(x), dtype=torch.long))
            for path, row, output in zip(paths, x, v, strict=False):
                clean = alpha * row.double() - sigma * output.double()
                path.append((Evaluation(row[None], float(t), alpha, sigma), clean[None]))
            x = schedule.step(v, t, x).prev_sample
        return paths


def trained_path(seed: int, skips: int) -> tuple[int, Sampler]:
    """A path of the example DiT, played back: it ignores what it is sent, and `trained` tells the clean images."""
    path = _trained()[TRAINED_SEEDS * skips + seed]

    def run() -> Sampler:
        for at, _ in path:
            yield at

    return len(path), run()


def trained(at: Evaluation) -> Tensor:
    """The clean image that the example DiT saw at this evaluation of one of its paths."""
    return next(clean for path in _trained() for known, clean in path if known.x is at.x)
