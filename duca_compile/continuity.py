"""Whether a call goes on from another one: what its timestep and its latents say.

Along one trajectory the timesteps move one way, and the latents turn little from step to step: for deterministic
samplers by a small angle that hardly changes, for stochastic ones by the share of fresh noise, which falls
(`benchmarks/continuity.py` measures both). Latents that begin a generation are new noise, or noise over a given image:
they stand across.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEAP = 3.0
"""A step this many times longer than the one before it is taken for a jump, not for travel."""
TURN = 2.0
"""How many times further than at the last step, for equally long ones, latents may turn."""
STILL = 0.05
"""The sine of an angle by which latents may turn in any case."""
AKIN = 0.5
"""The least cosine between the latents of two steps."""
SIGNIFICANT = 6.0
"""By how many standard deviations a cosine must stand out from that of two noises."""
UPWARD = "timestep moved up"
AGAIN = "called again at the same timestep"
TURNED = "latents do not go on from the last step's"


@dataclass(frozen=True)
class Moment:
    """Where a call stands. `latents`: picked elements of each, `[rows, picked]`; None where they could not be read
    without another wait for the device. `index`: the step as the pipeline counts it, where it says so.
    """

    timesteps: tuple[float, ...] = ()
    latents: tuple[Tensor | None, ...] = ()
    index: int | None = None


@dataclass(frozen=True)
class Pace:
    """How the last step moved: the timestep by `gap`, each row of the latents by an angle, of which `turns` are the
    sines. Before a second step nothing is known, and `gap` is 0; `rising` says that the timestep counts up then."""

    gap: float = 0.0
    turns: tuple[Tensor | None, ...] = ()
    rising: bool = False


START = Pace()
"""Before the second step of a trajectory."""


def pace(before: Moment, last: Pace, now: Moment) -> Pace | str:
    """How `now` goes on from `before`, or why it does not.

    Before a second step, the direction of travel is known only by convention: down. A model that counts up is
    believed from its second move on. Where the pipeline counts its steps, its count tells the next one, and a timestep
    may stay (Heun's method evaluates the model twice at one); where the two speak against each other, nothing goes on.
    """
    counted = None if before.index is None or now.index is None else now.index - before.index
    if counted == 0 or (counted is None and now.timesteps == before.timesteps):
        return AGAIN
    if counted not in (None, 1):
        return "the pipeline's step index jumped"
    gap = _common_gap(before.timesteps, now.timesteps)
    if gap is None:
        return "timesteps of the batch move apart"
    interrupted = _interruption(last, gap) if gap else None
    if interrupted is not None:
        return interrupted
    stretch = max(1.0, abs(gap / last.gap)) if last.gap else 1.0
    turns = tuple(_turns(a, b) for a, b in zip(before.latents, now.latents, strict=True))
    earlier = last.turns or (None,) * len(turns)
    if not all(map(_follows, turns, now.latents, earlier, (stretch,) * len(turns))):
        return TURNED
    return Pace(gap or last.gap, turns, last.rising)


def _common_gap(before: tuple[float, ...], after: tuple[float, ...]) -> float | None:
    """How far the furthest timestep moved; None if some moved apart. Those of frames that are given may stay."""
    gaps = [b - a for a, b in zip(before, after, strict=True) if b != a]
    furthest = max(gaps, key=abs, default=0.0)
    return furthest if all(gap * furthest > 0 for gap in gaps) else None


def _interruption(last: Pace, gap: float) -> str | None:
    if last.gap == 0:
        return None if gap < 0 or last.rising else UPWARD
    if gap * last.gap < 0:
        return "timestep jumped back"
    return "timestep leapt ahead" if abs(gap) > LEAP * abs(last.gap) else None


def _turns(before: Tensor | None, after: Tensor | None) -> Tensor | None:
    """The sine of the angle of each row, `[rows]`; infinite beyond a right angle, NaN where a row is none."""
    if before is None or after is None or before.shape != after.shape:
        return None
    cosine: Tensor = (before * after).sum(1) / (before.norm(dim=1) * after.norm(dim=1))
    sine: Tensor = (1 - cosine.square()).clamp_min(0).sqrt()
    sine[cosine <= 0] = math.inf
    sine[(before == after).all(1)] = 0
    return sine


def _follows(turn: Tensor | None, latents: Tensor | None, last: Tensor | None, stretch: float) -> bool:
    if turn is None or latents is None:
        return True
    cosine = max(AKIN, min(0.95, SIGNIFICANT / math.sqrt(max(1, latents.shape[1]))))
    most = torch.full_like(turn, math.sqrt(1 - cosine**2))
    if last is not None:
        most = most.minimum((TURN * stretch * last).clamp_min(STILL))
    return bool((turn <= most).all())
