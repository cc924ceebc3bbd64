"""Whatever a program does, no call meets a cache that is not its own."""

import sys

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sequences.direct import Direct
from sequences.machine import World, sequences
from sequences.oracle import Oracle


def play(world: World, count: int, steps: int = 30) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small for more
    try:
        run_state_machine_as_test(
            sequences(world),
            settings=settings(
                max_examples=count, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_sequence_of_calls_is_given_a_cache_of_another(count: int) -> None:
    world = World(Direct(Oracle()))
    play(world, count)
    counts = world.player.oracle.counts
    print(f"{world.sequences} sequences; {dict(counts)}; {dict(world.situations)}")
    assert counts["conservative"] + counts["aggressive"] > counts["full"] / 5, "or nothing was put to the test"
