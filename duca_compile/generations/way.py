"""How far a trajectory has come, as its timesteps tell."""

from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.base import Place


def place(trajectory: Trajectory) -> Place:
    """Of the trajectory's last step."""
    way = whole(trajectory)
    if not way:
        return Place(trajectory.step, trajectory.since)
    come, since_full = (between(before, trajectory) for before in (trajectory.begun, trajectory.full))
    return Place(trajectory.step, trajectory.since, come / way, (come - since_full) / way)


def whole(trajectory: Trajectory) -> float | None:
    """From the first timestep to 0; from 0 to 1 or 1000 where they rise. None where that is not known."""
    begun, now = trajectory.begun, trajectory.moments[-1].timesteps
    if not now or min(*begun, *now, 0.0) < 0:
        return None
    largest = max(*begun, *now)
    if max(now) <= max(begun):
        return largest
    return 1.0 if largest <= 1 else 1000.0 if largest <= 1000 else None


def between(before: tuple[float, ...], trajectory: Trajectory) -> float:
    """How far the trajectory's last timesteps are from those `before`."""
    now = trajectory.moments[-1].timesteps
    return max((abs(b - a) for a, b in zip(before, now, strict=True)), default=0.0)
