"""Arguments that hold something else at every step: the residuals of a ControlNet, the noise level or the strength of
guidance, the last prediction, a prompt that is blended into another one.

They are neither latents nor conditioning: they tell nothing of whose call it is. Which ones they are is learned: an
argument that changed twice in a row, while the latents went on from one step to the next, moves. It is let pass in a
trajectory in which it has moved at the first step already; if it stayed then, it is conditioning there, and its change
starts the trajectory over.
"""

from collections.abc import Iterable
from typing import NamedTuple

from duca_compile.generations.call import Call
from duca_compile.generations.continuity import TURNED, Doubt, Pace
from duca_compile.generations.trajectory import Trajectory


class Near(NamedTuple):
    """A trajectory that the call follows from, surely or not, but for the arguments that `changed`."""

    known: Trajectory
    how: Pace | Doubt
    changed: frozenset[int]

    @property
    def pace(self) -> Pace:
        return self.how.pace if isinstance(self.how, Doubt) else self.how


def allowed(known: Trajectory, moving: frozenset[int]) -> frozenset[int]:
    """The arguments that may hold something else at the next step. `moving` are those that are known to move."""
    return moving if known.varying is None else known.varying


Steps = list[tuple[Trajectory, Pace]]


def candidates(group: Iterable[Trajectory], call: Call, moving: frozenset[int]) -> tuple[Steps, list[Trajectory]]:
    """The trajectories of `group` whose next step the call is seen to be, and those that one of these has passed: it
    began where they stood, and they have never gone on themselves."""
    found: Steps = []
    for known, how, changed in _beside(group, call):
        passing = allowed(known, moving) | (known.moved if known.varying is None else frozenset())
        anew = known.replaced(call.conditioning) - passing
        if changed <= passing and known.outlived(anew) and isinstance(how, Pace) and how.likeness.follows:
            found.append((known, how))
    left = {moment.place for known, _ in found for moment in known.moments[:-1]}
    passed = [known for known, _ in found if known.varying is None and known.moments[-1].place in left]
    return [each for each in found if each[0] not in passed], passed


def nearest(group: Iterable[Trajectory], call: Call) -> Near | None:
    """The trajectory that the call might go on from but for the fewest arguments; of several, the last used."""
    return min(_beside(group, call), key=lambda near: (len(near.changed), -near.known.used), default=None)


def _beside(group: Iterable[Trajectory], call: Call) -> list[Near]:
    """Where the timestep goes on, although arguments changed, and maybe the latents."""
    found = []
    for known in list(group):
        changed = known.changed(call.content)
        if changed and call.is_over(known) and not call.repeats(known):
            how = call.judge(known)
            if isinstance(how, Pace) or how.reason == TURNED:
                found.append(Near(known, how, changed))
    return found
