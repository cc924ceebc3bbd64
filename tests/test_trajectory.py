"""Caches are reused only within one trajectory."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import Mode
from duca_compile.generations import progress
from duca_compile.generations.trajectory import Trajectory
from duca_compile.methods.base import Place
from helpers import Generation, compiled
from zoo.case import noise, randomise
from zoo.core import example_dit

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE


@pytest.fixture
def model() -> nn.Module:
    return example_dit()


@pytest.fixture
def generation(model: nn.Module) -> Generation:
    return Generation(model, compiled(model), torch.tensor([1, 2]))


def test_one_generation(generation: Generation) -> None:
    assert generation.modes([900.0, 860.0, 820.0, 780.0, 740.0, 700.0]) == [F, C, A, C, A, F]


def test_a_second_generation_starts_full(generation: Generation, model: nn.Module) -> None:
    generation.modes([900.0, 860.0, 820.0])
    assert generation.modes([900.0, 860.0]) == [F, C]
    assert duca_compile.stats(model).resets == {"timestep jumped back": 1}


def test_after_the_same_timestep_again_a_step_is_full(generation: Generation, model: nn.Module) -> None:
    """Two calls of one step may differ in their latents alone: whose caches would the next one take?"""
    assert generation.modes([900.0, 900.0, 900.0, 860.0, 820.0, 820.0, 780.0, 740.0]) == [F, F, F, F, C, F, F, C]
    assert duca_compile.stats(model).resets == {"called again at the same timestep": 2}


def test_what_started_over_knows_how_many_steps_are_left(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, placed = [], progress.place

    def place(trajectory: Trajectory, distance: float | None) -> Place:
        places.append(placed(trajectory, distance))
        return places[-1]

    monkeypatch.setattr(progress, "place", place)
    generation.modes([1000.0 - 20 * step for step in range(50) for _ in range(2 if step == 25 else 1)])
    assert [each.step for each in places[-24:]] == list(range(24)), "the second call at a timestep is not placed"
    assert {each.steps for each in places[3:26]} == {50}
    assert {each.steps for each in places[-24:]} == {24}
    assert [each.later(1, 24).progress for each in places[-24:-1]] == pytest.approx(
        [each.progress for each in places[-23:]]
    )


def test_calls_that_share_their_timesteps_are_told_apart_by_sessions(generation: Generation) -> None:
    modes = []
    for t in (900.0, 860.0, 820.0):
        for guided in (True, False):
            with duca_compile.session(guided):
                modes.append(generation.mode(t))
    assert modes == [F, F, C, C, A, A]


def test_an_aborted_generation_leaves_nothing_behind(generation: Generation) -> None:
    generation.modes([900.0])
    assert generation.modes([950.0, 850.0]) == [F, C]


def test_a_leap_is_doubted(generation: Generation, model: nn.Module) -> None:
    assert generation.modes([900.0, 880.0, 860.0, 500.0, 480.0]) == [F, C, A, F, C]
    assert duca_compile.stats(model).resets == {"timestep leapt ahead": 1}


def test_a_single_call_at_the_end_does_not_open_an_upward_generation(generation: Generation) -> None:
    assert generation.modes([10.0, 900.0, 860.0, 820.0]) == [F, F, C, A]


def test_a_model_that_counts_up_is_believed_from_its_second_move(generation: Generation) -> None:
    generation.travel = 1.0
    assert generation.modes([0.0, 40.0, 80.0, 120.0, 160.0]) == [F, F, C, A, C]


def test_samples_at_different_timesteps_must_move_together(generation: Generation) -> None:
    together = [[900.0, 700.0], [880.0, 690.0], [860.0, 680.0]]
    assert [generation.mode(t) for t in together] == [F, C, A]
    assert generation.mode([840.0, 690.0]) is F


def test_samples_that_are_done_may_stay_while_the_others_move(generation: Generation) -> None:
    """Frames that are given keep timestep 0 in video models with a timestep per frame."""
    assert generation.modes([[900.0, 0.0], [860.0, 0.0], [820.0, 0.0]]) == [F, C, A]


def test_other_conditioning_is_another_trajectory(model: nn.Module) -> None:
    fast = compiled(model)
    one, two = Generation(model, fast, torch.tensor([1, 2])), Generation(model, fast, torch.tensor([1, 2]))
    assert [one.mode(900.0), two.mode(900.0), one.mode(860.0), two.mode(860.0)] == [F, F, C, C]


def test_interleaved_trajectories_equal_separate_ones(model: nn.Module) -> None:
    """Guidance in two calls a step: the conditional and the empty label."""
    steps = [900.0, 880.0, 860.0, 840.0]

    def run(fast: Any, labels: list[Tensor]) -> list[Tensor]:
        return [fast(noise(2, 1, 8, 8), torch.full((2,), t), label) for t in steps for label in labels]

    labels = [torch.tensor([1, 2]), torch.tensor([10, 10])]
    together = run(compiled(model), labels)
    for index, label in enumerate(labels):
        torch._dynamo.reset()
        for got, want in zip(together[index::2], run(compiled(model), [label]), strict=True):
            assert torch.equal(got, want)


def change_labels(generation: Generation) -> None:
    generation.labels.copy_(torch.tensor([3, 4]))


def replace_labels(generation: Generation) -> None:
    generation.labels = generation.labels.clone()


def change_weights(generation: Generation) -> None:
    next(generation.model.parameters()).mul_(1.5)


def swap_weights(generation: Generation) -> None:
    """As an EMA swap does: the parameter stays, its memory is another's."""
    weight = next(generation.model.parameters())
    weight.data = weight.data * 1.5


def fuse_weights(generation: Generation) -> None:
    """As peft fuses a LoRA: the version counter does not see it."""
    for weight in generation.model.parameters():
        weight.data += 0.01


def average_weights(generation: Generation) -> None:
    """As an EMA is copied to a model."""
    for weight in generation.model.parameters():
        weight.data.copy_(weight.data * 1.01)


def load_weights(generation: Generation) -> None:
    generation.model.load_state_dict({name: held * 1.01 for name, held in generation.model.state_dict().items()})


def change_labels_unseen(generation: Generation) -> None:
    generation.labels.data[0] = 3


CHANGES = [
    change_labels, change_labels_unseen, replace_labels, change_weights, swap_weights, fuse_weights, average_weights,
    load_weights,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_starts_over(generation: Generation, change: Callable[[Generation], None]) -> None:
    assert generation.modes([900.0, 880.0]) == [F, C]
    change(generation)
    assert generation.modes([860.0, 840.0]) == [F, C]


def test_two_models_of_one_class_keep_their_own_caches() -> None:
    """Dynamo may run both through one graph; the weights tell them apart."""
    labels, steps = torch.tensor([1, 2]), [900.0, 880.0, 860.0, 840.0]
    models = [randomise(DiT(size=8, width=32, depth=3, heads=2), seed) for seed in (1, 2)]

    def run(fasts: list[Any]) -> list[Tensor]:
        return [fast(noise(2, 1, 8, 8), torch.full((2,), t), labels) for t in steps for fast in fasts]

    together = run([compiled(model) for model in models])
    assert all(duca_compile.stats(model).graphs for model in models)
    for index, model in enumerate(models):
        torch._dynamo.reset()
        for got, want in zip(together[index::2], run([compiled(model)]), strict=True):
            assert torch.equal(got, want)


def test_conditioning_made_anew_for_every_call_is_recognised(generation: Generation, model: nn.Module) -> None:
    modes = []
    for t in (900.0, 880.0, 860.0, 840.0, 820.0):
        generation.labels = torch.tensor([1, 2])
        modes.append(generation.mode(t))
    assert modes == [F, F, C, A, C]
    assert duca_compile.stats(model).resets == {"conditioning made anew": 1}
    generation.labels = torch.tensor([1, 3])
    assert generation.mode(800.0) is F


@pytest.mark.parametrize("done", [1, 2, 3])
def test_the_same_prompt_made_again_is_another_generation(generation: Generation, done: int) -> None:
    """As after an abort, at another strength: lower down, where the one before would have gone on."""
    times = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0]
    assert generation.modes(times[:done]) == [F, C, A][:done]
    generation.labels = generation.labels.clone()
    assert generation.modes(times[done : done + 3]) == [F, C, A]


def test_requests_with_the_same_prompt_keep_their_own_caches(model: nn.Module) -> None:
    fast = compiled(model)
    one, two = (Generation(model, fast, torch.tensor([1, 2])) for _ in range(2))
    assert [each.mode(t) for t in (900.0, 880.0, 860.0) for each in (one, two)] == [F, F, C, C, A, A]


def test_new_noise_over_the_same_tensors_is_another_generation(model: nn.Module) -> None:
    fast, labels = compiled(model), torch.tensor([1, 2])
    for seed in range(3):
        for t in (900.0 - 40 * seed, 880.0 - 40 * seed):
            fast(noise(2, 1, 8, 8, seed=seed), torch.full((2,), t), labels)
    assert duca_compile.stats(model).steps == {F: 3, C: 3, A: 0}
    assert duca_compile.stats(model).resets == {"latents do not go on from the last step's": 2}


def test_new_noise_written_over_the_latents_is_another_generation() -> None:
    model = example_dit().double()
    fast, labels, x = compiled(model), torch.tensor([1, 2]), noise(2, 1, 8, 8).double()
    for seed in range(2):
        x.copy_(noise(2, 1, 8, 8, seed=seed))
        for t in (900.0 - 40 * seed, 880.0 - 40 * seed):
            fast(x, torch.full((2,), t, dtype=torch.float64), labels)
    assert duca_compile.stats(model).steps == {F: 2, C: 2, A: 0}


def test_threads_share_no_cache(generation: Generation) -> None:
    generation.travel = 0.0  # over latents that stay
    from concurrent.futures import ThreadPoolExecutor

    def mode(t: float) -> Mode:
        with torch.no_grad():
            return generation.mode(t)

    assert generation.mode(900.0) is F
    for _ in range(2):
        with ThreadPoolExecutor(1) as worker:
            assert [worker.submit(mode, t).result() for t in (890.0, 880.0)] == [F, C]
    assert generation.mode(880.0) is C


def test_copies_and_pickles_of_the_model_begin_anew(generation: Generation, model: nn.Module) -> None:
    import copy
    import pickle

    generation.modes([900.0, 880.0])
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        arguments = noise(2, 1, 8, 8), torch.full((2,), 860.0), generation.labels
        assert torch.equal(compiled(copied)(*arguments), model(*arguments))
    assert generation.mode(860.0) is A


def test_caches_die_with_their_conditioning(generation: Generation, model: nn.Module) -> None:
    generation.modes([900.0, 880.0])
    held = duca_compile.stats(model)
    assert held.trajectories == 1
    assert held.bytes > 0
    generation.labels = torch.tensor([5, 6])
    gc.collect()
    assert duca_compile.stats(model).bytes == 0


def test_reset_drops_the_caches(generation: Generation, model: nn.Module) -> None:
    generation.modes([900.0, 880.0])
    duca_compile.reset(model)
    assert duca_compile.stats(model).bytes == 0
    assert generation.modes([860.0]) == [F]


def test_the_number_of_trajectories_is_bounded(model: nn.Module) -> None:
    fast = compiled(model)
    alive = [Generation(model, fast, torch.tensor([1, 2])) for _ in range(9)]
    for each in alive:
        each.mode(900.0)
    assert duca_compile.stats(model).trajectories == 8
    assert alive[0].mode(880.0) is F


def test_an_exception_inside_a_step_forgets_the_trajectory(
    generation: Generation, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from duca_compile.runtime import registry

    generation.modes([900.0, 890.0, 888.0])
    (graph,) = registry.graphs(model)

    def interrupted(*inputs: Any) -> list[Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(graph.recipes[C], "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generation.mode(886.0)
        assert duca_compile.stats(model).trajectories == 0
    assert generation.modes([884.0, 882.0]) == [F, C]


def test_inference_mode_tensors_have_no_version_and_are_known_by_content(model: nn.Module) -> None:
    with torch.inference_mode():
        generation = Generation(model, compiled(model), torch.tensor([1, 2]))
        assert generation.modes([900.0, 880.0]) == [F, C]
        generation.labels[0] = 3
        assert generation.modes([860.0, 840.0]) == [F, C]


def test_a_changed_shape_is_another_graph_with_its_own_caches(model: nn.Module) -> None:
    fast = compiled(model, strict=False)
    for batch in (2, 1):
        call = noise(batch, 1, 8, 8), torch.full((batch,), 900.0 - batch), torch.ones(batch, dtype=torch.int64)
        assert torch.equal(fast(*call), model(*call))
    assert duca_compile.stats(model).graphs == 2
    assert duca_compile.stats(model).steps[F] == 2
