"""Where full steps lie."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import duca_compile
from duca_compile import Options
from duca_compile.methods.base import Clock, Place
from duca_compile.methods.forecast_stack import ForecastStack
from helpers import STEPS, compiled
from zoo.case import noise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])


def full(steps: int, cycle: int, schedule: str) -> list[int]:
    names = Options.parse({"cycle": cycle, "schedule": schedule}).sequence(steps)
    return [step for step, name in enumerate(names) if name == "full"]


def test_full_steps_lie_closer_together_at_the_ends() -> None:
    assert full(50, 5, "dense-ends") == [0, 3, 7, 12, 18, 25, 32, 39, 45, 48]
    assert full(20, 5, "dense-ends") == [0, 4, 10, 17]


def test_a_dense_start_thins_out() -> None:
    lengths = [after - before for before, after in itertools.pairwise(full(50, 5, "dense-start"))]
    assert lengths == sorted(lengths)
    assert lengths[0] < 5 < lengths[-1]


@pytest.mark.parametrize("schedule", ["even", "dense-ends", "dense-start", "adaptive"])
def test_cycles_are_of_their_length_on_average(schedule: str) -> None:
    for steps, cycle in itertools.product((10, 20, 28, 50, 100), (2, 3, 5, 7)):
        count = len(full(steps, cycle, schedule))
        assert abs(count - steps / cycle) <= max(1, 0.05 * steps / cycle), (steps, cycle)


def test_where_nothing_tells_the_progress_cycles_are_even() -> None:
    clock = ForecastStack(schedule="dense-ends").start()
    assert [clock.next(Place(10, since)) for since in (3, 4, 5)] == ["forecast", "forecast", "full"]
    assert clock.next(Place(10, 5, 0.0, 0.0)) == "full"


def lengths(clock: Clock, miss: Callable[[], float | None]) -> list[int]:
    """Of the cycles in the middle of a long generation, of which the first has begun."""
    since, found = 2, list[int]()
    for step in range(400, 600):
        if clock.next(Place(step, since, step / 1000, (step - since) / 1000, miss)) == "full":
            found.append(since)
            since = 0
        since += 1
    return found


def test_an_adaptive_schedule_is_as_dense_as_forecasts_are_off() -> None:
    def of(miss: float | None, tolerance: float = 0.1) -> list[int]:
        return lengths(ForecastStack(schedule="adaptive", tolerance=tolerance).start(), lambda: miss)

    as_given = of(None)
    assert of(0.1) == as_given == lengths(ForecastStack(schedule="dense-ends").start(), lambda: None)
    nearer, further = of(0.4), of(0.02)
    assert nearer[0] == further[0] == as_given[0], "nothing was seen yet"
    assert nearer[-1] < as_given[-1] < further[-1]
    assert nearer == sorted(nearer, reverse=True)
    assert further == sorted(further)
    assert of(0.4, tolerance=0.4) == as_given
    assert of(1e9)[-1] >= 1
    assert of(1e-9)[-1] <= 3 * as_given[-1] + 1


def test_what_an_adaptive_schedule_saw_is_of_one_trajectory() -> None:
    method = ForecastStack(schedule="adaptive")
    assert lengths(method.start(), lambda: 0.5)[-1] < lengths(method.start(), lambda: None)[-1]


@pytest.mark.parametrize("guided", [False, True])
def test_a_generation_tells_how_far_off_its_forecasts_are(guided: bool) -> None:
    """The same steps with a model whose forecasts hold less far have more full ones; also under guidance in two calls."""

    def full_steps(tolerance: float) -> int:
        model = example_dit()
        fast = compiled(model, method="forecast-stack", schedule="adaptive", tolerance=tolerance)
        x = noise(2, 1, 8, 8)
        for t in STEPS:
            x = x - 0.05 * predicted(fast, x, torch.full((2,), t), guided)
        return duca_compile.stats(model).steps["full"]

    strict, loose = full_steps(1e-4), full_steps(1e4)
    assert loose < 0.6 * strict


def predicted(fast: Any, x: Tensor, t: Tensor, guided: bool) -> Tensor:
    found: Tensor = fast(x, t, LABELS)
    return found + 0.5 * (found - fast(x, t, EMPTY)) if guided else found


EMPTY = torch.tensor([10, 10])
