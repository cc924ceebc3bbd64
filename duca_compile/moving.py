"""Arguments that hold something else at every step: the residuals of a ControlNet, the noise level or the strength of
guidance, the last prediction, a prompt that is blended into another one.

They are neither latents nor conditioning: they tell nothing of whose call it is. Which ones they are is learned: an
argument that changed twice in a row, while the latents went on from one step to the next, moves. It is let pass in a
trajectory in which it has moved at the first step already; if it stayed then, it is conditioning there, and its change
starts the trajectory over.
"""

from collections.abc import Iterable
from typing import NamedTuple

from duca_compile.call import Call
from duca_compile.continuity import TURNED, Doubt, Pace
from duca_compile.trajectory import Trajectory


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


def candidates(group: Iterable[Trajectory], call: Call, moving: frozenset[int]) -> list[tuple[Trajectory, Pace]]:
    """The trajectories of `group` whose next step the call is seen to be; of one and its heir, the heir."""
    found = []
    for known, how, changed in _beside(group, call):
        passing = allowed(known, moving) | (known.moved if known.varying is None else frozenset())
        anew = known.replaced(call.conditioning) - passing
        if changed <= passing and known.outlived(anew) and isinstance(how, Pace) and how.likeness.follows:
            found.append((known, how))
    inherited = {known.past() for known, _ in found if known.past is not None}
    return [(known, how) for known, how in found if known not in inherited]


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
