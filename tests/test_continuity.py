"""What timesteps and latents say of a call's place."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from duca_compile.generations import likeness
from duca_compile.generations.continuity import AGAIN, CONFLICT, START, TURNED, Doubt, Moment, Pace, pace
from duca_compile.generations.likeness import Likeness, Stand
from zoo.case import noise

X, OTHER, OUTPUT, NOISE = (noise(2, 256, seed=seed).double() for seed in range(4))


def at(t: float | list[float], latents: Tensor | None = X, index: int | None = None) -> Moment:
    return Moment((t,) if isinstance(t, float) else tuple(t), (latents,), index)


def reason(found: Pace | Doubt) -> str | None:
    return found.reason if isinstance(found, Doubt) else None


def like(now: Tensor | None, *past: tuple[Tensor | None, Sequence[Tensor]]) -> Likeness:
    """How latents follow from those of the moments before, each with the outputs there."""
    return likeness.of([Stand((latents,), outputs) for latents, outputs in past], [now], 0.0, len(past))


@pytest.mark.parametrize(
    ("last", "before", "after", "why"),
    [
        (START, 900.0, 880.0, None),
        (START, 900.0, 900.0, AGAIN),
        (START, 900.0, 910.0, "timestep moved up"),
        (START, 900.0, 440.0, "timestep leapt ahead"),
        (START, -0.4, -0.5, None),
        (START, 0.9, 0.5, None),
        (Pace(rising=True), 0.1, 0.2, "timestep moved up"),
        (Pace(-20.0), 900.0, 840.0, None),
        (Pace(-20.0), 900.0, 839.0, "timestep leapt ahead"),
        (Pace(-20.0), 900.0, 901.0, "timestep jumped back"),
        (Pace(0.1), 0.5, 0.6, None),
        (START, [900.0, 700.0], [880.0, 710.0], "timesteps of the batch move apart"),
        (START, [900.0, 0.0], [880.0, 0.0], None),
    ],
)
def test_timesteps(last: Pace, before: float, after: float, why: str | None) -> None:
    assert reason(pace([at(before)], last, at(after))) == why


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
    assert reason(pace([at(900.0, index=before)], Pace(-20.0), at(t, index=after))) == why


def test_a_count_lets_a_model_count_up_at_once() -> None:
    assert reason(pace([at(0.1, index=0)], START, at(0.2, index=1))) is None
    assert reason(pace([at(0.1)], START, at([0.2, 0.2]))) == "timesteps of the batch move apart"


def test_a_model_that_counts_up_is_believed_where_outputs_show_it_twice() -> None:
    """An image that is noised further and further rises too, and its latents turn as little."""
    made, noised = at(0.2, X + 0.1 * OUTPUT), at(0.2, X + 0.1 * NOISE)
    first = pace([at(0.1)], START, made, lambda moment: [OUTPUT])
    assert isinstance(first, Doubt)
    assert first.pace.rising
    onward = at(0.3, X + 0.2 * OUTPUT)
    assert reason(pace([made], first.pace, onward, lambda moment: [OUTPUT])) is None
    assert reason(pace([made], START, onward, lambda moment: [OUTPUT])) == "timestep moved up"
    assert reason(pace([at(0.1)], Pace(rising=True), noised, lambda moment: [OUTPUT])) == "timestep moved up"
    assert reason(pace([at(0.1)], Pace(rising=True), made)) == "timestep moved up"


def test_latents_are_made_of_the_last_ones_and_the_outputs_there() -> None:
    made = 0.2 * X + 3 * OUTPUT
    assert like(made, (X, [OUTPUT])) is Likeness.EXACT
    assert like(made, (X, [])) is Likeness.APART
    assert like(made, (X, [OTHER])) is Likeness.APART
    assert like(made + 0.5 * NOISE, (X, [OUTPUT])) is Likeness.MADE, "clipped"
    assert like(made + 2 * NOISE, (X, [OUTPUT])) is Likeness.APART
    assert like(X + 0.05 * NOISE, (X, [OUTPUT])) is Likeness.APART, "however little they turn"


def test_outputs_of_earlier_steps_and_of_the_other_half_of_a_batch_count() -> None:
    assert like(X + OUTPUT - 0.5 * OTHER, (NOISE, [OTHER]), (X, [OUTPUT])) is Likeness.EXACT
    assert like(0.2 * X + 3 * OUTPUT - 2 * OUTPUT.flip(0), (X, [OTHER, OUTPUT])) is Likeness.EXACT


def test_of_few_elements_the_other_half_of_a_batch_is_left_out() -> None:
    x, one, two = X[:, :16], OUTPUT[:, :16], OTHER[:, :16]
    assert like(0.2 * x + 3 * one - 2 * two, (x, [one, two])) is Likeness.EXACT, "guidance in two calls, 512 samples"


def test_every_row_of_a_batch_must_follow() -> None:
    half = torch.stack([X[0] + OUTPUT[0], NOISE[1]])
    assert like(half, (X, [OUTPUT])) is Likeness.APART


def test_each_row_may_follow_in_a_way_of_its_own() -> None:
    """A sampler that clips changes some rows of a batch more than others."""
    clip, clip_before = torch.tensor([[0.02], [0.07]]), torch.tensor([[0.0], [0.1]])
    second = 0.9 * X + 0.1 * OUTPUT + clip_before * NOISE
    now = 0.9 * second + 0.1 * OUTPUT + clip * noise(2, 256, seed=4).double()
    past = [(X, [OUTPUT]), (second, [OUTPUT])]
    assert like(now, *past) is Likeness.STRAIGHT
    assert like(torch.cat([now[:1], OTHER[1:]]), *past) is Likeness.APART
    assert like(torch.cat([OTHER[:1], now[1:]]), *past) is Likeness.APART


def test_a_few_rows_may_be_clipped_more() -> None:
    """Up to a quarter of them; rows from other noise are further off, however few they are."""
    x, output, stray = (noise(8, 256, seed=seed).double() for seed in (7, 8, 9))

    def with_strays(rows: int, share: float) -> Likeness:
        clipped = torch.zeros(8, 1)
        clipped[:rows] = share
        return like(x + output + clipped * stray, (x, [output]))

    assert with_strays(8, 0.2) is with_strays(2, 0.45) is Likeness.MADE
    assert with_strays(3, 0.45) is with_strays(2, 0.7) is with_strays(1, 1.0) is Likeness.APART


def test_what_says_nothing_says_nothing() -> None:
    assert like(None, (X, [])) is Likeness.UNKNOWN
    assert like(X, (None, [])) is Likeness.UNKNOWN
    assert like(X, (X, [])) is Likeness.UNKNOWN
    assert like(torch.full_like(X, torch.nan), (X, [OUTPUT])) is Likeness.APART
    assert like(X[:, :128], (X, [])) is Likeness.APART
    assert likeness.of([Stand((), [])], [], 0.0, 1) is Likeness.UNKNOWN


def test_a_walk_leaves_the_moment_before_the_last_behind() -> None:
    one, two = X + 0.5 * OTHER, X + 0.5 * OTHER + 0.5 * NOISE
    assert like(two, (X, []), (one, [])) is Likeness.DRIFTED
    assert like(X + OTHER, (X, []), (one, [])) is Likeness.STRAIGHT
    assert like(X + 0.5 * NOISE, (X + 0.5 * OTHER, []), (X + 0.5 * OUTPUT, [])) is Likeness.APART, "variations of X"
    assert like(two, (one, [])) is Likeness.APART, "nothing to compare with"


def test_a_walk_is_believed_from_its_second_sign_on() -> None:
    steps = [X + 0.5 * sum(noise(2, 256, seed=10 + at).double() for at in range(count)) for count in range(5)]
    moments = [at(900.0 - 20 * number, latents) for number, latents in enumerate(steps)]
    last, found = START, []
    for number in range(1, 5):
        judged = pace(moments[max(0, number - 3) : number], last, moments[number])
        found.append(reason(judged))
        last = judged.pace if isinstance(judged, Doubt) else judged
    assert found == [TURNED, TURNED, None, None]


def test_of_further_latents_the_direction_must_stay() -> None:
    def judged(other: Tensor) -> Likeness:
        return likeness.of([Stand((X, OTHER), [OUTPUT])], [X + OUTPUT, other], 0.0, 1)

    assert judged(OTHER + 0.3 * NOISE) is Likeness.EXACT
    assert judged(NOISE) is Likeness.APART


def test_what_came_before_a_doubt_speaks_for_no_other_generation() -> None:
    """Previews in turns from two noises over one image: the third is made of the first, and not of the second."""
    first, second, third = at(900.0), at(880.0, OTHER), at(860.0, X + OUTPUT)

    def outputs(moment: Moment) -> Sequence[Tensor]:
        return [OUTPUT] if moment is first else [NOISE]

    assert reason(pace([first, second], Pace(-20.0), third, outputs, own=1)) == TURNED
    made = at(860.0, OTHER + NOISE + OUTPUT)
    assert reason(pace([first, second], Pace(-20.0), made, outputs, own=1)) is None, "by a sampler of second order"
