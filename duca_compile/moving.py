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


def allowed(known: Trajectory, moving: frozenset[int]) -> frozenset[int]:
    """The arguments that may hold something else at the next step. `moving` are those that are known to move."""
    return moving if known.varying is None else known.varying


def candidates(group: Iterable[Trajectory], call: Call, moving: frozenset[int]) -> list[tuple[Trajectory, Pace]]:
    """The trajectories of `group` whose next step the call is seen to be."""
    found = []
    for known, how, changed in _beside(group, call):
        twice = known.missed.arguments if known.missed and known.varying is None else frozenset()
        passing = allowed(known, moving) | twice
        stays = changed <= passing and not known.replaced(call.conditioning) - passing
        if stays and isinstance(how, Pace) and how.likeness.follows:
            found.append((known, how))
    return found


def nearest(group: Iterable[Trajectory], call: Call) -> Near | None:
    """The trajectory that the call might go on from but for the fewest arguments; None if there are several."""
    found = sorted(_beside(group, call), key=lambda near: len(near.changed))
    alone = found and (len(found) == 1 or len(found[0].changed) < len(found[1].changed))
    return found[0] if alone else None


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
