"""Steps that are too long to be cached: those of a generation of few steps, or far from the last full step.

What a cached step lacks grows with the way that the timestep has come, not with the number of steps
(`benchmarks/few_steps.py` measured from where on it harms). Where the sampler adds fresh noise, a cached step has seen
none of what came since the last full step, and the way may be a quarter as long.
"""

from duca_compile.generations import sessions
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


def recipe_at(trajectory: Trajectory, method: Method, who: object) -> str:
    """The recipe of the trajectory's next step by its method's clock, or FULL, out of turn, where it is too long.

    In a session that counts, the clock alone decides. `who` is told of once.
    """
    if trajectory.clock is None:
        trajectory.clock = method.start()
    recipe = trajectory.clock.next(trajectory.step)
    if recipe == FULL or sessions.counts() or not _is_long(trajectory, who):
        return recipe
    trajectory.step = method.opening
    return FULL


def _is_long(trajectory: Trajectory, who: object) -> bool:
    """Whether the trajectory's last moment is too far from the one before it or from the last full step."""
    way = _way(trajectory)
    if way is None:
        return False
    stride, reach = _way_from(trajectory.moments[-2:][0].timesteps, trajectory), _way_from(trajectory.full, trajectory)
    if stride > STRIDE * way:
        note_once(who, FEW)
        return True
    noisy = trajectory.noisy > 1 and reach > REACH_IN_NOISE * way
    if noisy:
        note_once(who, NOISY)
    return noisy or reach > REACH * way


def _way(trajectory: Trajectory) -> float | None:
    """From the first timestep to 0; from 0 to 1 or 1000 where they rise. None where that is not known."""
    begun, now = trajectory.begun, trajectory.moments[-1].timesteps
    if not now or min(*begun, *now, 0.0) < 0:
        return None
    largest = max(*begun, *now)
    if max(now) <= max(begun):
        return largest
    return 1.0 if largest <= 1 else 1000.0 if largest <= 1000 else None


def _way_from(before: tuple[float, ...], trajectory: Trajectory) -> float:
    now = trajectory.moments[-1].timesteps
    return max((abs(b - a) for a, b in zip(before, now, strict=True)), default=0.0)
