"""Whether latents follow from those of the steps before: pure geometry of what was picked of them.

A deterministic sampler makes the next latents of the last ones and of the model's outputs there, linearly: they lie in
the span of these, to rounding (`python benchmarks quality continuity` measures it; clipped samples stray by a part of
the step). The latents of another generation do not: its noise is not among them, however alike the images are.

A sampler that adds fresh noise leaves that span, and so do masks and thresholds. But each step keeps a part of the
noise of the one before: the latents are nearer to the last step than to the one before it. Those of another generation
are equally far from both. Where this shows twice in a row, the walk is believed.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

EXACT = 0.05
"""The share of its step by which a row may stray from the span and still be exactly made of it."""
MADE = 0.3
"""The same, for samplers that clip; the noise of another generation strays by 0.7 and more."""
CLIPPED = 0.5
"""The same for a few rows, of which a sampler clips more than of the others."""
FEW = 0.25
"""The share of rows that those few may be."""
DRIFT = 0.9
"""How much of the distance to the moment before the last the distance to the last one may be: 0.7 for even steps of
fresh noise, 0.5 without noise, 1 for another generation."""
STRAIGHT = 0.7
"""The same without fresh noise: half the way at even steps."""
FURTHEST = 0.87
"""The distance, as a share of the latents' length, from which on a drift tells nothing."""
_TINY = 1e-30


class Likeness(Enum):
    """How latents follow from those before."""

    UNKNOWN = "nothing could be read, or nothing has moved"
    EXACT = "made of the last latents and outputs, to rounding"
    MADE = "made of the last latents and outputs"
    STRAIGHT = "half as far from the last latents as from those before"
    DRIFTED = "nearer to the last latents than to those before, but with fresh noise"
    APART = "do not follow"

    @property
    def follows(self) -> bool:
        return self in (Likeness.EXACT, Likeness.MADE, Likeness.STRAIGHT, Likeness.DRIFTED)


class Stand(NamedTuple):
    """A moment's latents, as in `continuity.Moment`, and the outputs of the calls there, `[rows, picked]` each."""

    latents: tuple[Tensor | None, ...]
    outputs: Sequence[Tensor]


def of(past: Sequence[Stand], now: Sequence[Tensor | None], rounding: float, own: int) -> Likeness:
    """How the latents `now` follow from the `past`, the last moment last. Every row of a batch must.

    Only the last `own` moments are certain to be of one generation. Outputs are those of the first latents; of the
    others only their direction is known, which must be alike.
    """
    before = past[-1].latents
    if any(a is not None and b is not None and a.shape != b.shape for a, b in zip(before, now, strict=True)):
        return Likeness.APART
    first = now[0] if now else None
    others = zip(before[1:], now[1:], strict=True)
    if not all(_alike(a, b) for a, b in others if a is not None and b is not None):
        return Likeness.APART
    if first is None or before[0] is None:
        return Likeness.UNKNOWN
    return _of_first(past, first, max(rounding, 1e-6), own)


def _of_first(past: Sequence[Stand], now: Tensor, floor: float, own: int) -> Likeness:
    step = distance(now, past[-1:], outputs=False)
    if bool((step <= floor).all()):
        return Likeness.UNKNOWN
    exact = made = clipped = step < 0
    for moments in range(1, len(past) + 1):
        if moments > own and _goes_round(past[-moments:], now, step, floor):
            break
        off = distance(now, past[-moments:])
        exact, made, clipped = (
            known | (off <= (share * step).clamp_min(floor))
            for known, share in ((exact, EXACT), (made, MADE), (clipped, CLIPPED))
        )
        if bool(clipped.all()) and int((~made).sum()) <= FEW * len(made):
            return Likeness.EXACT if bool(exact.all()) else Likeness.MADE
    if len(past) < 2 or past[-2].latents[0] is None or past[-2].latents[0].shape != now.shape:
        return Likeness.APART
    off, earlier = distance(now, past[-1:]), distance(now, past[-2:-1])
    for share, found in ((STRAIGHT, Likeness.STRAIGHT), (DRIFT, Likeness.DRIFTED)):
        near = (off <= share * earlier) & (off <= FURTHEST)
        if bool((near | made | (off <= floor)).all()):
            return found
    return Likeness.APART


def _goes_round(past: Sequence[Stand], now: Tensor, step: Tensor, floor: float) -> bool:
    """Whether a row is made of what lies before the last moment alone, as one of another generation may be."""
    before = past[-2].latents[0]
    if before is None or before.shape != now.shape:
        return True
    return bool((distance(now, past[:-1]) <= (MADE * step).clamp_min(floor)).any())


def distance(now: Tensor, past: Sequence[Stand], outputs: bool = True) -> Tensor:
    """How far each row stands off the span of the latents and outputs of these moments, as a share of its length.

    A row may also hold outputs of the row half a batch away, its counterpart under guidance, where
    enough was picked. 1 where the span is too
    wide to tell anything, NaN where a number is none.
    """
    last = past[-1].latents[0]
    assert last is not None
    own = [made for stand in reversed(past) for made in (stand.outputs if outputs else ()) if made.shape == now.shape]
    partners = [made.roll(len(made) // 2, 0) for made in own if len(made) % 2 == 0]
    picked = now.shape[1]
    partners = partners if picked >= 4 * (1 + len(own) + len(partners)) else []
    count = 1 + len(own) + len(partners)
    if picked < 4 * count:
        return now.new_ones(len(now))
    spanning = torch.stack([last, *own, *partners, now], 1)
    spanning = spanning / spanning.norm(dim=2, keepdim=True).clamp_min(_TINY)
    spanning, unit = spanning[:, :count], spanning[:, count:]
    gram = spanning @ spanning.mT
    gram.diagonal(dim1=1, dim2=2).add_(1e-12)
    weights, _ = torch.linalg.solve_ex(gram, spanning @ unit.mT)
    off: Tensor = (unit - weights.mT @ spanning).flatten(1).norm(dim=1)
    return off.mul_((picked / (picked - count)) ** 0.5)


def off_the_line(first: Tensor, second: Tensor, third: Tensor) -> float:
    """How far the third lies off the line through the others, as a share of its length: the mean over rows."""
    off = (third - 2 * second + first).norm(dim=1) / third.norm(dim=1).clamp_min(_TINY)
    return float(off.mean())


def cosine(before: Tensor, now: Tensor) -> Tensor:
    """Of the angle by which each row turns."""
    found: Tensor = torch.linalg.vecdot(before, now) / (before.norm(dim=1) * now.norm(dim=1)).clamp_min(_TINY)
    return found


def _alike(before: Tensor, now: Tensor) -> bool:
    """Whether no row turns by more than 60 degrees."""
    still = (before == now).all(1)
    return bool(((cosine(before, now) >= 0.5) | still).all())
