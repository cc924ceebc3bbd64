"""Whatever a pipeline does, no call meets a cache that is not its own."""

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sequences.machine import World, sequences


@torch._dynamo.config.patch(recompile_limit=64)
def run(count: int, patch: pytest.MonkeyPatch) -> World:
    world, threads = World(), torch.get_num_threads()
    world.oracle.install(patch)
    torch.set_num_threads(1)  # the model is too small for more
    try:
        run_state_machine_as_test(
            sequences(world),
            settings=settings(
                max_examples=count, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        torch.set_num_threads(threads)
    return world


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_sequence_of_calls_meets_a_cache_of_another(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = run(count, monkeypatch)
    counts = world.oracle.counts
    print(f"{world.sequences} sequences; {dict(counts)}")
    assert world.sequences >= count
    assert counts["wrong"] == 0
    assert counts["conservative"] + counts["aggressive"] > counts["full"] / 5, "or nothing was put to the test"
