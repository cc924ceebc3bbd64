"""What timesteps and latents say of a call's place."""

import pytest
import torch
from torch import Tensor

from duca_compile.continuity import AGAIN, CONFLICT, START, TURNED, Doubt, Moment, Pace, pace
from zoo.case import noise

X, OTHER, OUTPUT = (noise(2, 256, seed=seed).double() for seed in range(3))


def at(t: float | list[float], latents: Tensor | None = X, index: int | None = None) -> Moment:
    return Moment((t,) if isinstance(t, float) else tuple(t), (latents,), index)


def reason(found: Pace | Doubt) -> str | None:
    return found.reason if isinstance(found, Doubt) else None


@pytest.mark.parametrize(
    ("last", "before", "after", "why"),
    [
        (START, 900.0, 880.0, None),
        (START, 900.0, 900.0, AGAIN),
        (START, 900.0, 910.0, "timestep moved up"),
        (START, 900.0, 440.0, "timestep leapt ahead"),
        (START, -0.4, -0.5, None),
        (START, 0.9, 0.5, None),
        (Pace(rising=True), 0.1, 0.2, None),
        (Pace(-20.0), 900.0, 840.0, None),
        (Pace(-20.0), 900.0, 839.0, "timestep leapt ahead"),
        (Pace(-20.0), 900.0, 901.0, "timestep jumped back"),
        (Pace(0.1), 0.5, 0.6, None),
        (START, [900.0, 700.0], [880.0, 710.0], "timesteps of the batch move apart"),
        (START, [900.0, 0.0], [880.0, 0.0], None),
    ],
)
def test_timesteps(last: Pace, before: float, after: float, why: str | None) -> None:
    assert reason(pace(at(before), last, at(after))) == why


@pytest.mark.parametrize(
    ("before", "after", "t", "why"),
    [
        (3, 4, 880.0, None),
        (3, 4, 900.0, None),
        (3, 3, 880.0, AGAIN),
        (3, 5, 880.0, "the pipeline's step_index jumped"),
        (3, 0, 880.0, "the pipeline's step_index jumped"),
        (3, 4, 950.0, CONFLICT),
        (3, None, 880.0, None),
    ],
)
def test_a_pipeline_that_counts_its_steps(before: int, after: int | None, t: float, why: str | None) -> None:
    assert reason(pace(at(900.0, index=before), Pace(-20.0), at(t, index=after))) == why


def test_a_count_lets_a_model_count_up_at_once() -> None:
    assert reason(pace(at(0.1, index=0), START, at(0.2, index=1))) is None
    assert reason(pace(at(0.1), START, at([0.2, 0.2]))) == "timesteps of the batch move apart"


def test_latents_that_turn_little_go_on_and_others_do_not() -> None:
    assert reason(pace(at(900.0), START, at(880.0, X + 0.1 * OTHER))) is None
    assert reason(pace(at(900.0), START, at(880.0, X + 0.3 * OTHER))) == TURNED
    assert reason(pace(at(900.0), START, at(880.0, OTHER))) == TURNED
    assert reason(pace(at(900.0), START, at(880.0, torch.full_like(X, torch.nan)))) == TURNED
    assert reason(pace(at(900.0), START, at(880.0, None))) is None, "what could not be read says nothing"


def test_one_row_of_the_batch_that_does_not_go_on_is_enough() -> None:
    assert reason(pace(at(900.0), START, at(880.0, torch.stack([X[0], OTHER[0]])))) == TURNED


def test_latents_made_of_the_outputs_go_on_however_far_they_turn() -> None:
    made = at(880.0, 0.2 * X + 3 * OUTPUT)
    assert reason(pace(at(900.0), START, made)) == TURNED
    assert reason(pace(at(900.0), START, made, [OUTPUT])) is None
    assert reason(pace(at(900.0), START, made, [OTHER])) == TURNED
    guided = at(880.0, 0.2 * X + 3 * OUTPUT - 2 * OUTPUT.flip(0))
    assert reason(pace(at(900.0), START, guided, [OTHER, OUTPUT])) is None
    half_new = at(880.0, 0.2 * X + 3 * OUTPUT + noise(2, 256, seed=7).double())
    assert reason(pace(at(900.0), START, half_new, [OUTPUT])) == TURNED


def test_latents_turn_no_faster_than_before() -> None:
    last = Pace(-20.0, ([0.05, 0.05],))
    assert reason(pace(at(900.0), last, at(880.0, X + 0.09 * OTHER))) is None
    assert reason(pace(at(900.0), last, at(880.0, X + 0.14 * OTHER))) == TURNED
    assert reason(pace(at(900.0), last, at(860.0, X + 0.14 * OTHER))) is None, "a step twice as long"


def test_stochastic_samplers_are_believed_from_two_alike_steps_on() -> None:
    first = pace(at(900.0), START, at(850.0, X + OTHER))
    assert isinstance(first, Doubt)
    assert first.reason == TURNED
    now = X + OTHER
    assert reason(pace(at(850.0, now), first.pace, at(800.0, now + 0.9 * noise(2, 256, seed=5).double()))) is None
    assert reason(pace(at(850.0, now), first.pace, at(780.0, now + 0.9 * noise(2, 256, seed=5).double()))) == TURNED
    assert reason(pace(at(850.0, now), first.pace, at(800.0, now + 4 * noise(2, 256, seed=5).double()))) == TURNED
