"""Whether a call goes on from another one: what its timestep and its latents say.

Along one trajectory the timesteps move one way, and the latents turn little from step to step: for deterministic
samplers by a small angle that hardly changes, for stochastic ones by the share of fresh noise, which falls
(`benchmarks/continuity.py` measures both). Where they turn further, a deterministic sampler has made them of the last
latents and the model's last outputs, nearly linearly. Latents that begin a generation are new noise, or noise over a
given image: they stand across.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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


Row = list[float] | None
"""A number for each row of the latents; None where they could not be read."""


@dataclass(eq=False)
class Moment:
    """Where a call stands. `latents`: picked elements of each, `[rows, picked]`; None where they could not be read
    without another wait for the device. `index`: the step as the pipeline counts it, where it says so.
    """

    timesteps: tuple[float, ...] = ()
    latents: tuple[Tensor | None, ...] = ()
    index: int | None = None

    @cached_property
    def lengths(self) -> tuple[Row, ...]:
        """The norm of each row of each of the latents."""
        return tuple([None if held is None else _lengths(held) for held in self.latents])


class Pace(NamedTuple):
    """How the last step moved: the timestep by `gap`, each row of the latents by an angle, of which `turns` are the
    sines. At a trajectory's first step nothing is known, and `gap` is 0; `rising` says that the timestep came up to it.
    `doubted`: the latents turned too far to go on, so the trajectory began there.
    """

    gap: float = 0.0
    turns: tuple[Row, ...] = ()
    rising: bool = False
    doubted: bool = False


START = Pace()
"""Before the second step of a trajectory."""


class Doubt(NamedTuple):
    """Why a call does not go on from another one, and what is still known of the pace."""

    reason: str
    pace: Pace = START


def pace(before: Moment, last: Pace, now: Moment, outputs: Sequence[Tensor] = ()) -> Pace | Doubt:
    """How `now` goes on from `before`, or why it does not. `outputs` are the last calls', picked like the latents.

    Before a second step, the direction of travel is known only by convention: down. A model that counts up is
    believed from its second move on. Where the pipeline counts its steps, its count tells the next one, and a timestep
    may stay (Heun's method evaluates the model twice at one) or count up; where it turns back, nothing goes on.
    """
    counted = None if before.index is None or now.index is None else now.index - before.index
    if counted == 0 or (counted is None and now.timesteps == before.timesteps):
        return Doubt(AGAIN)
    if counted not in (None, 1):
        return Doubt("the pipeline's step_index jumped")
    gap = _common_gap(before.timesteps, now.timesteps)
    reason = "timesteps of the batch move apart" if gap is None else _interruption(last, gap, now) if gap else None
    if counted and reason == UPWARD:
        reason = None
    if gap is None or reason is not None:
        return Doubt(CONFLICT if counted else reason or "", Pace(rising=reason == UPWARD))
    moved = Pace(gap or last.gap, _turns(before, now), last.rising)
    within = map(_is_within, moved.turns, now.latents, _limits(last, moved))
    if all(within) or _is_made_of(before, now, moved, outputs):
        return moved
    return Doubt(TURNED, moved._replace(doubted=True))


def _common_gap(before: tuple[float, ...], after: tuple[float, ...]) -> float | None:
    """How far the furthest timestep moved; None if some moved apart. Those of frames that are given may stay."""
    if len(before) != len(after):
        return None
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


def _turns(before: Moment, now: Moment) -> tuple[Row, ...]:
    """The sine of the angle of each row; infinite beyond a right angle, or where a row is no direction."""
    turns: list[Row] = []
    for a, b, lengths_a, lengths_b in zip(before.latents, now.latents, before.lengths, now.lengths, strict=True):
        if a is None or b is None or lengths_a is None or lengths_b is None or a.shape != b.shape:
            turns.append(None)
        else:
            turns.append(list(map(_sine, torch.linalg.vecdot(a, b).tolist(), lengths_a, lengths_b)))
    return tuple(turns)


def _lengths(rows: Tensor) -> list[float]:
    return list(map(math.sqrt, torch.linalg.vecdot(rows, rows).tolist()))


def _sine(product: float, a: float, b: float) -> float:
    if a == b == 0:
        return 0.0
    cosine = product / (a * b) if a * b > 0 else 0.0
    return math.sqrt(max(0.0, 1 - cosine * cosine)) if cosine > 0 else math.inf


def _limits(last: Pace, moved: Pace) -> list[Row]:
    """How far the rows of each of the latents may turn."""
    stretch = abs(moved.gap / last.gap) if last.gap else 1.0
    even = 1 / EVEN <= stretch <= EVEN
    limits: list[Row] = []
    for turn, before in zip(moved.turns, last.turns or (None,) * len(moved.turns), strict=True):
        if before is None or (last.doubted and not even):
            limits.append([FIRST_TURN] * len(turn or ()))
        elif last.doubted:
            limits.append([max(STILL, row) for row in before])
        else:
            limits.append([max(STILL, TURN * max(1.0, stretch) * row) for row in before])
    return limits


def _is_within(turn: Row, latents: Tensor | None, limit: Row) -> bool:
    if turn is None or latents is None or limit is None:
        return True
    cosine = max(AKIN, min(0.95, SIGNIFICANT / math.sqrt(max(1, latents.shape[1]))))
    most = math.sqrt(1 - cosine**2)
    return all(row <= min(most, bound) for row, bound in zip(turn, limit, strict=True))


def _is_made_of(before: Moment, now: Moment, moved: Pace, outputs: Sequence[Tensor]) -> bool:
    """Whether the first latents are a linear combination of those before and of the outputs, row by row.

    A row may also hold outputs of the row half a batch away, its counterpart under guidance. Others than the first
    have no outputs to be made of.
    """
    first, made_from = (each.latents[0] if each.latents else None for each in (now, before))
    if first is None or made_from is None or first.shape != made_from.shape:
        return False
    fitting = [output for output in outputs if output.shape == first.shape]
    partners = [output.roll(len(output) // 2, 0) for output in fitting if len(output) % 2 == 0]
    parts = torch.stack([made_from, *fitting, *partners], 2)
    picked, count = parts.shape[1:]
    if picked < 4 * count or not (parts.isfinite().all() and first.isfinite().all()):
        return False
    parts = parts / parts.norm(dim=1, keepdim=True).clamp_min(1e-30)
    made = parts @ torch.linalg.lstsq(parts, first.unsqueeze(2), driver="gelsd").solution
    off = (first - made.squeeze(2)).norm(dim=1) / first.norm(dim=1).clamp_min(1e-30)
    akin: list[Row] = [[1.0] * len(turn or ()) for turn in moved.turns]
    others = all(map(_is_within, moved.turns[1:], now.latents[1:], akin[1:]))
    return bool((off * math.sqrt(picked / (picked - count)) <= STRAY).all()) and others
