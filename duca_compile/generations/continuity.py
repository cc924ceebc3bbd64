"""Whether a call goes on from another one: what its timestep and its latents say.

Along one trajectory the timesteps move one way. What the latents say is `likeness.py`'s to tell: they are made of the
trajectory's own last latents and outputs, or, where a sampler adds fresh noise, they drift away step by step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from duca_compile.generations import digests, likeness
from duca_compile.generations.likeness import Likeness, Stand

LEAP = 3.0
"""A step this many times longer than the one before it is taken for a jump, not for travel."""
FIRST_SHARE = 0.5
"""The share of a positive timestep that must be left after the first step."""
UPWARD = "timestep moved up"
AGAIN = "called again at the same timestep"
CONFLICT = "the pipeline's step_index and its timestep disagree"
TURNED = "latents do not go on from the last step's"
REMEMBERED = 3
"""Moments of a trajectory that are kept: the samplers of third order make the next latents of three."""


@dataclass(eq=False)
class Moment:
    """Where a call stands. `latents`: picked elements of each, `[rows, picked]`; None where they could not be read
    without another wait for the device. `index`: the step as the pipeline counts it, where it says so. `rounding`: how
    far the latents' type rounds, relative to their length.
    """

    timesteps: tuple[float, ...] = ()
    latents: tuple[Tensor | None, ...] = ()
    index: int | None = None
    rounding: float = 0.0
    timestep_dtype: torch.dtype | None = None

    @cached_property
    def place(self) -> bytes | None:
        """Differs where the first latents do; None where they could not be read."""
        first = self.latents[0] if self.latents else None
        return None if first is None else digests.of_host(first)


class Pace(NamedTuple):
    """How the last step moved: the timestep by `gap`, which is 0 before a trajectory's second step; `rising`: it came
    up to this one. `likeness` says how the latents followed."""

    gap: float = 0.0
    likeness: Likeness = Likeness.UNKNOWN
    rising: bool = False


START = Pace()
"""Before the second step of a trajectory."""


class Doubt(NamedTuple):
    """Why a call does not go on from another one, and what is still known of the pace."""

    reason: str
    pace: Pace = START


def pace(
    past: Sequence[Moment],
    last: Pace,
    now: Moment,
    outputs: Callable[[Moment], Sequence[Tensor]] = lambda moment: (),
    own: int = REMEMBERED,
) -> Pace | Doubt:
    """How `now` goes on from the last of the `past` moments, or why it does not. The last `own` of them are certain to
    be of one generation; what came before may be of another one, over the same image or from the same noise.

    `outputs` gives those of the calls that stood at a moment, picked like the latents. Before a second step, the
    direction of travel is known only by convention: down. A model that counts up is believed from its second move on,
    and only where outputs show that the latents were made of them: an image that is noised further and further rises
    too. Where the pipeline counts its steps, its count tells the next one, and a timestep may stay (Heun's method
    evaluates the model twice at one) or count up; where it turns back, nothing goes on.
    """
    before = past[-1]
    counted = None if before.index is None or now.index is None else now.index - before.index
    if counted == 0 or (counted is None and now.timesteps == before.timesteps):
        return Doubt(AGAIN)
    if counted not in (None, 1):
        return Doubt("the pipeline's step_index jumped")
    gap = common_gap(before.timesteps, now.timesteps)
    reason = "timesteps of the batch move apart" if gap is None else interruption(last, gap, now) if gap else None
    if counted and reason == UPWARD:
        reason = None
    if gap is None or reason not in (None, UPWARD):
        return Doubt(CONFLICT if counted else reason or "")
    found = likeness_of(past, now, outputs, own)
    if reason == UPWARD:
        rises = found is Likeness.EXACT
        return Pace(gap, found, True) if rises and last.rising else Doubt(UPWARD, Pace(rising=rises))
    if found is Likeness.APART:
        return Doubt(TURNED, Pace(likeness=found))
    moved = Pace(gap or last.gap, found, last.rising)
    drifts = found in (Likeness.STRAIGHT, Likeness.DRIFTED)
    return Doubt(TURNED, moved) if drifts and not last.likeness.follows else moved


def likeness_of(
    past: Sequence[Moment], now: Moment, outputs: Callable[[Moment], Sequence[Tensor]], own: int
) -> Likeness:
    """How the latents of `now` follow from those of the `past` moments; the rest is as for `pace`."""
    stands = [Stand(moment.latents, outputs(moment)) for moment in past]
    return likeness.of(stands, now.latents, now.rounding, own)


def common_gap(before: tuple[float, ...], after: tuple[float, ...]) -> float | None:
    """How far the furthest timestep moved; None if some moved apart. Those of frames that are given may stay."""
    if len(before) != len(after):
        return None
    gaps = [b - a for a, b in zip(before, after, strict=True) if b != a]
    furthest = max(gaps, key=abs, default=0.0)
    return furthest if all(gap * furthest > 0 for gap in gaps) else None


def interruption(last: Pace, gap: float, now: Moment) -> str | None:
    """Why a timestep that moved by `gap`, not 0, does not travel on; `last` is how it moved before."""
    if last.gap == 0:
        if gap > 0:
            return UPWARD
        left = max(now.timesteps)
        return "timestep leapt ahead" if left < FIRST_SHARE * (left - gap) and left > gap else None
    if gap * last.gap < 0:
        return "timestep jumped back"
    return "timestep leapt ahead" if abs(gap) > LEAP * abs(last.gap) else None
