"""Steps too long for a cache."""

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import duca_compile
from duca_compile import DucaWarning, session
from duca_compile.generations.continuity import Moment, Pace
from duca_compile.generations.identity import Identity, state
from duca_compile.generations.likeness import Likeness
from duca_compile.generations.long_steps import choose
from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.duca import DuCa, Mode
from duca_compile.runtime import registry
from helpers import Generation, compiled, ours
from zoo.case import noise
from zoo.core import example_dit


class Asker:
    """Who is told."""


def modes(times: Sequence[float], likeness: Likeness = Likeness.EXACT, **options: Any) -> str:
    """Of a generation at these timesteps, by their first letters."""
    weights = Identity(state([torch.zeros(1)]))
    trajectory, who, found = Trajectory((Moment((times[0],)),), weights), Asker(), ""
    for number, t in enumerate(times):
        if number:
            trajectory.move(Moment((t,)), Pace(times[number] - times[number - 1], likeness), trajectory.step + 1)
        mode = choose(trajectory, DuCa(**options), who).recipe
        if mode == Mode.FULL:
            trajectory.computed()
        found += mode[0].upper()
    return found


def spaced(steps: int, first: float = 1000.0, shift: float = 1.0) -> list[float]:
    return [first * shift * s / (1 + (shift - 1) * s) for s in (1 - at / steps for at in range(steps))]


@pytest.mark.parametrize("first", [1000.0, 1.0, 14.6])
def test_few_steps_are_computed_and_many_are_cached_whatever_the_scale(first: float) -> None:
    with pytest.warns(DucaWarning, match="generations of 8 steps and less"):
        assert modes(spaced(4, first)) == "FFFF"
    with pytest.warns(DucaWarning, match="generations of 8 steps and less"):
        assert modes(spaced(8, first)) == "F" * 8
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        assert modes(spaced(12, first)) == "FCAFCAFCAFCA"
        assert modes(spaced(20, first)) == "FCACA" * 4
        assert modes(spaced(50, first)) == "FCACA" * 10


def test_image_to_image_begins_lower() -> None:
    assert modes(spaced(50)[30:]) == "FCACA" * 4
    with pytest.warns(DucaWarning):
        assert modes(spaced(20)[16:]) == "FFFF"


def test_a_time_shift_makes_late_steps_long() -> None:
    assert modes(spaced(50, shift=3.0)).startswith("FCACA" * 8)
    with pytest.warns(DucaWarning):
        assert modes(spaced(8, shift=3.0)) == "FCACFCFF"


def test_under_fresh_noise_caches_reach_a_quarter_as_far() -> None:
    with pytest.warns(DucaWarning, match="fresh noise"):
        assert modes(spaced(50), Likeness.DRIFTED) == "FCA" * 16 + "FC"
    with pytest.warns(DucaWarning, match="fresh noise"):
        assert modes(spaced(20), Likeness.DRIFTED).count("F") == 10


def test_timesteps_that_rise_come_from_nothing() -> None:
    assert modes([at / 50 for at in range(50)]) == "FCACA" * 10
    assert modes([at * 20.0 for at in range(50)]) == "FCACA" * 10


def test_what_has_no_scale_follows_the_options() -> None:
    """As the logarithm of the noise level, which falls below 0."""
    assert modes([-0.1 - 0.3 * at for at in range(10)]) == "FCACA" * 2


def test_a_session_that_counts_follows_the_options() -> None:
    with session("request", steps=4):
        assert modes(spaced(4)) == "FCAC"


def test_a_step_that_is_too_long_opens_a_cycle_after_the_warm_up() -> None:
    times = [1000.0, 980.0, 960.0, 800.0, 780.0, 760.0, 740.0, 720.0, 700.0]
    with pytest.warns(DucaWarning):
        assert modes(times, warmup_steps=2) == "FFCFCACAF"


def test_a_step_computed_out_of_turn_joins_what_forecasts_combine() -> None:
    model = example_dit()
    fast, x, labels = compiled(model, method="forecast-stack", cycle=4), noise(2, 1, 8, 8), torch.tensor([1, 2])
    for t in (980.0, 940.0, 822.0, 800.0):
        x = x - 0.05 * fast(x, torch.full((2,), t), labels)
    assert dict(duca_compile.stats(model).steps) == {"full": 2, "forecast": 2}
    (trajectory,) = [each for tracker in registry.trackers(model) for each in tracker.live]
    (cache,) = trajectory.caches.values()
    (kept,) = cache.kept.values()
    assert kept.calls == (3, 1)


def test_end_to_end() -> None:
    model = example_dit()
    generation = Generation(model, compiled(model), torch.tensor([1, 2]))
    with pytest.warns(DucaWarning, match="generations of 8 steps and less") as caught:
        assert generation.modes(spaced(4, 900.0)) == [Mode.FULL] * 4
    assert len(ours(caught)) == 1
