"""What the comparison with other caches (`python benchmarks peers`) rests on; cache-dit itself is not needed here."""

from contextlib import nullcontext

import pytest

from models.sampled import SUBJECTS, Size, build
from peers.methods import Schedule, full_steps, taylor_interval
from peers.report import cells


def test_a_schedule_has_our_full_steps() -> None:
    assert [step for step, full in enumerate(Schedule(30, 5).full) if full] == [0, 5, 10, 15, 20, 25]


@pytest.mark.parametrize(("steps", "cycle"), [(30, 5), (50, 5), (20, 4), (28, 3)])
def test_taylor_seer_gets_as_many_full_steps(steps: int, cycle: int) -> None:
    schedule = Schedule(steps, cycle)
    interval, before = taylor_interval(schedule)
    full = [step < before or (step - before - 1) % interval == 0 for step in range(steps)]
    assert full[0]
    assert sum(full) == sum(schedule.full)


def test_a_step_without_the_blocks_is_cached() -> None:
    assert full_steps([100, 20, 99, 60]) == [True, False, True, False]


def test_an_unsupported_row_says_why() -> None:
    assert cells({"row": "a peer", "unsupported": "no blocks"})[:2] == ("a peer", "not supported: no blocks")


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_samples_the_same_each_time(name: str) -> None:
    size = Size(width=64, depth=2, side=4, batch=1)
    samples = []
    for _ in range(2):
        subject = build(name, size)
        samples.append(subject.sample(subject.model, 2, nullcontext))
    assert samples[0].isfinite().all()
    assert samples[0].equal(samples[1])
