"""Whether a call goes on from another one: what its timestep and its latents say.

Along one trajectory the timesteps move one way, and the latents turn little from step to step: for deterministic
samplers by a small angle that hardly changes, for stochastic ones by the share of fresh noise, which falls
(`benchmarks/continuity.py` measures both). Where they turn further, a deterministic sampler has made them of the last
latents and the model's last outputs, nearly linearly. Latents that begin a generation are new noise, or noise over a
given image: they stand across.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

LEAP = 3.0
"""A step this many times longer than the one before it is taken for a jump, not for travel."""
FIRST_SHARE = 0.5
"""The share of a positive timestep that must be left after the first step."""
TURN = 2.0
"""How many times further than at the last step, for equally long ones, latents may turn."""
FIRST_TURN = 0.15
"""The sine of the angle by which they may turn at the first step."""
STILL = 0.05
"""The sine of an angle by which they may turn at any later step."""
STRAY = 0.1
"""The sine of the angle by which latents may stand off all that could be made of the last latents and outputs."""
AKIN = 0.5
"""The least cosine between the latents of two steps."""
SIGNIFICANT = 6.0
"""By how many standard deviations a cosine must stand out from that of two noises."""
EVEN = 1.25
"""Two steps in which samplers add fresh noise are alike: none is this many times longer, and the later turns less."""
UPWARD = "timestep moved up"
AGAIN = "called again at the same timestep"
CONFLICT = "the pipeline's step_index and its timestep disagree"
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
    sines. At a trajectory's first step nothing is known, and `gap` is 0; `rising` says that the timestep came up to it.
    `doubted`: the latents turned too far to go on, so the trajectory began there.
    """

    gap: float = 0.0
    turns: tuple[Tensor | None, ...] = ()
    rising: bool = False
    doubted: bool = False


@dataclass(frozen=True)
class Doubt:
    """Why a call does not go on from another one, and what is still known of the pace."""

    reason: str
    pace: Pace = field(default_factory=Pace)


START = Pace()
"""Before the second step of a trajectory."""


def pace(before: Moment, last: Pace, now: Moment, outputs: Sequence[Tensor] = ()) -> Pace | Doubt:
    """How `now` goes on from `before`, or why it does not. `outputs` are the last calls', picked like the latents.

    Before a second step, the direction of travel is known only by convention: down. A model that counts up is
    believed from its second move on. Where the pipeline counts its steps, its count tells the next one, and a timestep
    may stay (Heun's method evaluates the model twice at one); where the two speak against each other, nothing goes on.
    """
    counted = None if before.index is None or now.index is None else now.index - before.index
    if counted == 0 or (counted is None and now.timesteps == before.timesteps):
        return Doubt(AGAIN)
    if counted not in (None, 1):
        return Doubt("the pipeline's step_index jumped")
    gap = _common_gap(before.timesteps, now.timesteps)
    reason = "timesteps of the batch move apart" if gap is None else _interruption(last, gap, now) if gap else None
    if gap is None or reason is not None:
        return Doubt(CONFLICT if counted else reason or "", Pace(rising=reason == UPWARD))
    moved = Pace(gap or last.gap, tuple(map(_turns, before.latents, now.latents)), last.rising)
    limits = _limits(last, moved)
    if all(map(_is_within, moved.turns, now.latents, limits)) or _is_made_of(before.latents, now.latents, outputs):
        return moved
    return Doubt(TURNED, replace(moved, doubted=True))


def _common_gap(before: tuple[float, ...], after: tuple[float, ...]) -> float | None:
    """How far the furthest timestep moved; None if some moved apart. Those of frames that are given may stay."""
    gaps = [b - a for a, b in zip(before, after, strict=True) if b != a]
    furthest = max(gaps, key=abs, default=0.0)
    return furthest if all(gap * furthest > 0 for gap in gaps) else None


def _interruption(last: Pace, gap: float, now: Moment) -> str | None:
    if last.gap == 0:
        if gap > 0:
            return None if last.rising else UPWARD
        left = max(now.timesteps)
        return "timestep leapt ahead" if left < FIRST_SHARE * (left - gap) and left > gap else None
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


def _limits(last: Pace, moved: Pace) -> list[Tensor | float]:
    """How far the rows of each of the latents may turn."""
    if last.gap == 0:
        return [FIRST_TURN] * len(moved.turns)
    stretch = abs(moved.gap / last.gap)
    if last.doubted:
        even = 1 / EVEN <= stretch <= EVEN
        return [STILL if turn is None else turn.clamp_min(STILL) if even else FIRST_TURN for turn in last.turns]
    return [
        FIRST_TURN if turn is None else (TURN * max(1.0, stretch) * turn).clamp_min(STILL)
        for turn in last.turns or (None,) * len(moved.turns)
    ]


def _is_within(turn: Tensor | None, latents: Tensor | None, limit: Tensor | float) -> bool:
    if turn is None or latents is None:
        return True
    cosine = max(AKIN, min(0.95, SIGNIFICANT / math.sqrt(max(1, latents.shape[1]))))
    return bool(((turn <= limit) & (turn <= math.sqrt(1 - cosine**2))).all())


def _is_made_of(before: tuple[Tensor | None, ...], after: tuple[Tensor | None, ...], outputs: Sequence[Tensor]) -> bool:
    """Whether the first latents are a linear combination of those before and of the outputs, row by row.

    A row may also hold outputs of the row half a batch away, its counterpart under guidance. Others than the first
    have no outputs to be made of.
    """
    if not after or before[0] is None or after[0] is None:
        return False
    fitting = [output for output in outputs if output.shape == after[0].shape]
    partners = [output.roll(len(output) // 2, 0) for output in fitting if len(output) % 2 == 0]
    parts = torch.stack([before[0], *fitting, *partners], 2)
    picked, count = parts.shape[1:]
    if picked < 4 * count or not (parts.isfinite().all() and after[0].isfinite().all()):
        return False
    parts = parts / parts.norm(dim=1, keepdim=True).clamp_min(1e-30)
    made = parts @ torch.linalg.lstsq(parts, after[0].unsqueeze(2), driver="gelsd").solution
    off = (after[0] - made.squeeze(2)).norm(dim=1) / after[0].norm(dim=1).clamp_min(1e-30)
    others = all(map(_is_within, map(_turns, before[1:], after[1:]), after[1:], [1.0] * len(after[1:])))
    return bool((off * math.sqrt(picked / (picked - count)) <= STRAY).all()) and others
