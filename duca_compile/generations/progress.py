"""How far a generation has come: the share of its steps that lie behind.

Where its caller or its pipeline tells how many steps there are, they are counted. Else the timesteps tell: those of
diffusion models fall evenly, those of flow models by a time shift (`a x / (1 + (a - 1) x)` of even `x`). In both,
`1 / t` has grown by `d k / (n - k)` after k of n steps, whatever the scale and the shift are: three timesteps tell `n`.
Where they are too coarse for that, the share of the way to 0 stands for it.
"""

import torch

from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.base import Place

SURE = 4.0
"""By so many times what rounding can make of it must `1 / t` be seen to bend before the number of steps is believed."""


def place(trajectory: Trajectory, distance: float | None = None) -> Place:
    """Of the trajectory's last step, of which the method's probe has found this `distance`."""
    now, since = len(trajectory.path) - 1, trajectory.since
    seen = trajectory.miss, distance
    left = _left(trajectory)
    steps = trajectory.total or _steps(trajectory, left)
    counted = trajectory.moments[-1].index
    last = now if counted is None or steps is None else counted
    if steps is not None:
        shares = min(last / steps, 1.0), max(last - since, 0) / steps
    elif left:
        shares = 1 - left[now] / left[0], 1 - left[now - since] / left[0]
    else:
        return Place(trajectory.step, since, None, None, *seen)
    return Place(trajectory.step, since, *shares, *seen, before=max(last - trajectory.step, 0))


def whole_way(trajectory: Trajectory) -> float | None:
    """From the first timestep to 0; from 0 to 1 or 1000 where they rise. None where that is not known."""
    begun, now = trajectory.begun, trajectory.moments[-1].timesteps
    if not now or min(*begun, *now, 0.0) < 0:
        return None
    largest = max(*begun, *now)
    if max(now) <= max(begun):
        return largest
    return 1.0 if largest <= 1 else 1000.0 if largest <= 1000 else None


def way_from(before: tuple[float, ...], trajectory: Trajectory) -> float:
    """From the timesteps `before` to the trajectory's last ones."""
    now = trajectory.moments[-1].timesteps
    return max((abs(b - a) for a, b in zip(before, now, strict=True)), default=0.0)


def _left(trajectory: Trajectory) -> list[float]:
    """The way to the end at each of its steps; empty where that is not known."""
    path, whole = trajectory.path, whole_way(trajectory)
    if whole is None:
        return []
    left = [whole - t for t in path] if path[-1] > path[0] else path
    return left if left[0] > 0 else []


def _steps(trajectory: Trajectory, left: list[float]) -> float | None:
    """How many steps the timesteps of the trajectory tell that it has, by the way `left` at each of them, or None."""
    now = len(trajectory.path) - 1
    if now < 2:
        return None
    half = now // 2
    if not left or left[now] <= 0 or not left[0] > left[half] > left[now]:
        return None
    first, second = (1 / left[at] - 1 / left[0] for at in (half, now))
    bend = second * half / (first * now)
    error = sum(_rounding(left[at], trajectory) / left[at] ** 2 / grown for at, grown in ((half, first), (now, second)))
    if bend - 1 <= SURE * bend * error:
        return None
    return max((bend * now - half) / (bend - 1), now + 1.0)


def _rounding(t: float, trajectory: Trajectory) -> float:
    """How far a timestep may be from what the sampler means: whole numbers may be rounded ones."""
    dtype = trajectory.moments[-1].timestep_dtype
    if t > 1 and all(float(each).is_integer() for each in trajectory.path[-2:]):
        return 0.5
    return t * torch.finfo(dtype).eps / 2 if dtype is not None and dtype.is_floating_point else 0.0
