"""Whatever a program does, no call meets a cache that is not its own."""

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sequences.coverage import GUIDED, alone
from sequences.direct import Direct
from sequences.endtoend import EndToEnd
from sequences.machine import Sequences
from sequences.oracle import Oracle
from sequences.program import World


def play(world: World, count: int, least: float) -> None:
    """`least`: so many cached calls for a full one, or nothing was put to the test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small for more
    try:
        run_state_machine_as_test(
            lambda: Sequences(world),  # type: ignore[arg-type]
            settings=settings(
                max_examples=count, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        torch.set_num_threads(threads)
    world.report()
    counts = world.player.oracle.counts
    assert world.sequences >= count
    assert counts["conservative"] + counts["aggressive"] > counts["full"] * least


@pytest.mark.parametrize(("count", "least"), [(15, 1 / 20), pytest.param(10_000, 1 / 5, marks=pytest.mark.slow)])
def test_no_sequence_of_calls_is_placed_in_the_trajectory_of_another(count: int, least: float) -> None:
    play(World(Direct(Oracle())), count, least)


@pytest.mark.parametrize(("count", "least"), [(6, 1 / 20), pytest.param(10_000, 1 / 5, marks=pytest.mark.slow)])
def test_no_sequence_of_calls_meets_a_cache_of_another(
    count: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = EndToEnd(Oracle())
    player.install(monkeypatch)
    with torch._dynamo.config.patch(recompile_limit=64):
        play(World(player, contexts=("none",)), count, least)


@pytest.mark.parametrize(
    ("predicts", "sampler", "least"),
    [
        ("eps", "DDIM", 0.8),
        ("eps", "DPM-Solver++ 2M", 0.8),
        ("eps", "UniPC", 0.8),
        ("eps", "Euler ancestral", 0.75),
        ("v", "DDIM", 0.8),
        ("v", "DPM-Solver++ SDE", 0.75),
        ("x0", "Euler", 0.8),
        ("x0", "DDPM", 0.75),
        ("flow", "flow", 0.8),
    ],
)
@pytest.mark.parametrize("guidance", GUIDED)
def test_a_generation_alone_is_cached(predicts: str, sampler: str, least: float, guidance: str) -> None:
    model = [kind.predicts for kind in Direct(Oracle()).kinds].index(predicts)
    assert alone(model, sampler, guidance).share >= least


def test_a_generation_of_the_trained_model_is_cached() -> None:
    model = [kind.denoiser for kind in Direct(Oracle()).kinds].index("trained")
    assert alone(model, "DDIM", "none").share >= 0.8
