"""Steps that are too long to be cached: those of a generation of few steps, or far from the last full step.

What a cached step lacks grows with the way that the timestep has come, not with the number of steps
(`python benchmarks quality few-steps` measured from where on it harms). Where the sampler adds fresh noise, a cached
step has seen none of what came since the last full step, and the way may be a quarter as long.
"""

from duca_compile.generations import progress, sessions
from duca_compile.generations.tally import FAR, LONG, NOISE, Choice
from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.base import FULL, Method
from duca_compile.refusal import note_once

STRIDE = 0.12
"""The longest step that is cached, as a share of the way from the first timestep to 0: generations of 8 steps and less
are computed. At so few steps, caching is no better than taking fewer."""
REACH = 0.215
"""The furthest from the last full step: what a cycle of 5 spans at 20 steps."""
REACH_IN_NOISE = 0.055
"""The same under a sampler that adds fresh noise."""
FEW = (
    "duca computes steps in which the timestep moves by more than 12 % of its way, as in generations of 8 steps and "
    "less: a cache would harm them more than it saves"
)
NOISY = (
    "duca uses its caches for shorter stretches than `cycle` says: the sampler adds fresh noise at every step, of "
    "which caches know nothing"
)


def choose(trajectory: Trajectory, method: Method, who: object, distance: float | None = None) -> Choice:
    """The recipe of the trajectory's next step by its method's clock, or FULL, out of turn, where it is too long.

    In a session that counts, the clock alone decides. `who` is told of once.
    """
    if trajectory.clock is None:
        trajectory.clock = method.start()
    recipe = trajectory.clock.next(progress.place(trajectory, distance))
    if recipe == FULL:
        return Choice(FULL)
    too_long = "" if sessions.counts() else why_too_long(trajectory, who)
    return Choice(FULL, too_long) if too_long else Choice(recipe)


def why_too_long(trajectory: Trajectory, who: object) -> str:
    """Why the trajectory's last moment is too far from the one before it or from the last full step, if it is."""
    whole = progress.whole_way(trajectory)
    if whole is None:
        return ""
    stride, reach = (
        progress.way_from(before, trajectory) for before in (trajectory.moments[-2:][0].timesteps, trajectory.full)
    )
    if stride > STRIDE * whole:
        note_once(who, FEW)
        return LONG
    if trajectory.noisy > 1 and reach > REACH_IN_NOISE * whole:
        note_once(who, NOISY)
        return NOISE
    return FAR if reach > REACH * whole else ""
