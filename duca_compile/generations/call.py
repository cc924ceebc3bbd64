"""A call of a model, as far as it tells which generation it belongs to."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from torch import Tensor

from duca_compile.generations.continuity import (
    AGAIN,
    START,
    TURNED,
    UPWARD,
    Doubt,
    Moment,
    Pace,
    common_gap,
    interruption,
    likeness_of,
    pace,
)
from duca_compile.generations.identity import State
from duca_compile.generations.likeness import Likeness, cosine
from duca_compile.generations.trajectory import Trajectory

UNRELATED = 0.3
"""The cosine below which latents are new noise, even to a session that counts."""


class Call(NamedTuple):
    """`content` stands for what each argument holds: the `conditioning` tensors, then the numbers; `names` are theirs.
    `outputs` gives those of the calls that stood at a moment. `steps`: how many a session counts, which then decides.
    `total`: how many there are, as far as it is told.
    """

    moment: Moment
    weights: State
    conditioning: Sequence[Tensor]
    content: tuple[Hashable, ...]
    outputs: Callable[[Moment], Sequence[Tensor]]
    steps: int | None
    names: tuple[str, ...]
    total: int | None = None

    @property
    def arguments(self) -> Hashable:
        """The same for calls whose arguments are the same ones."""
        return self.names, len(self.content)

    def judge(self, known: Trajectory) -> Pace | Doubt:
        """How the call goes on from the trajectory's last step, or why it does not."""
        if self.steps is None:
            return pace(known.moments, known.pace, self.moment, self.outputs, known.own)
        return self._counted(known, self.steps)

    def repeats(self, known: Trajectory) -> bool:
        """Whether nothing tells the call from the trajectory's last step."""
        last, now = known.moments[-1], self.moment
        return (last.timesteps, last.index, last.place) == (now.timesteps, now.index, now.place)

    def has_moved_on_from(self, known: Trajectory) -> bool:
        """Whether the pipeline's count or the timestep has gone on from the trajectory's last step."""
        last, now = known.moments[-1], self.moment
        if last.index is not None and now.index is not None:
            return now.index > last.index
        gap = common_gap(last.timesteps, now.timesteps) or 0.0
        return gap * (known.pace.gap or -1.0) > 0

    def is_of_one_generation_with(self, known: Trajectory, doubt: Doubt) -> bool:
        """Whether it is the same generation that starts over. A session that counts starts over for new ones alone."""
        if self.steps is not None:
            return False
        if doubt.reason == AGAIN:
            return known.pace.gap != 0
        return doubt.pace.rising or self.has_moved_on_from(known)

    def is_over(self, known: Trajectory) -> bool:
        """Whether the call goes on from the trajectory's weights."""
        return known.weights.is_of(self.weights)

    def _counted(self, known: Trajectory, steps: int) -> Pace | Doubt:
        """The next step, unless it must be a new generation's: the one before may have been given up."""
        if known.calls >= steps:
            return Doubt("the session's steps are done")
        if known.total != self.total:
            return Doubt("the session counts other steps")
        last = known.moments[-1]
        gap = common_gap(last.timesteps, self.moment.timesteps) or 0.0
        turned = interruption(known.pace, gap, self.moment) if gap else None
        if turned is not None:
            return Doubt(turned, Pace(gap) if turned == UPWARD else START)
        travels = gap * known.pace.gap > 0 or (known.pace.gap == 0 and gap < 0)
        if not travels and any(map(_are_unrelated, last.latents, self.moment.latents)):
            return Doubt("latents are new noise", Pace(gap))  # the model may count up, under a sampler that draws anew
        found = likeness_of(known.moments, self.moment, self.outputs, known.own)
        if known.pace.likeness is Likeness.EXACT and found in (Likeness.STRAIGHT, Likeness.DRIFTED, Likeness.APART):
            return Doubt(TURNED)
        return Pace(gap or known.pace.gap, found)


def _are_unrelated(before: Tensor | None, now: Tensor | None) -> bool:
    if before is None or now is None or before.shape != now.shape:
        return False
    return bool(((cosine(before, now) < UNRELATED) & (before != now).any(1)).any())
