"""Arguments that hold something else at every step, on the tracker alone."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from duca_compile import DucaWarning, Mode
from duca_compile.generations.budget import Budget
from duca_compile.generations.given import Given
from duca_compile.generations.tracker import Tracker
from duca_compile.generations.trajectory import Cache
from duca_compile.methods.duca import DuCa
from duca_compile.plan.step_plan import Slot
from helpers import ours
from zoo.case import noise

PROMPT, NEGATIVE = noise(2, 3, 8, seed=50), noise(2, 3, 8, seed=51)
Argument = Callable[[int], Any]


class Sampling:
    """One generation at a time over one tracker: a smooth model, an Euler step, and `argument(step)` beside the prompt.

    `fresh` is the share of new noise that the sampler adds.
    """

    def __init__(self, argument: Argument, fresh: float = 0.0) -> None:
        self.tracker, self.argument, self.fresh = Tracker(Budget(None)), argument, fresh
        self.weights, self.seed = [torch.zeros(4)], 0
        self.x, self.t = self.begin(), 900.0

    def begin(self) -> Tensor:
        self.seed += 1
        self.t = 900.0
        self.x = noise(2, 16, 16, seed=self.seed)
        return self.x

    def step(self, at: int, prompts: tuple[Tensor, ...] = (PROMPT,)) -> str:
        """The modes of the calls of a step, by their first letters."""
        modes, output, given = "", torch.zeros_like(self.x), self.argument(at)
        for prompt in prompts:
            output = (
                self.x.roll(1, 2) * 0.7 + prompt.mean() + 0.1 * float(torch.as_tensor(given).float().mean())
            ).sin()
            modes += self._call(prompt, given, output)
        self.x = self.x - 0.05 * output + self.fresh * noise(2, 16, 16, seed=1000 * self.seed + at)
        self.t -= 10
        return modes

    def _call(self, prompt: Tensor, given: Any, output: Tensor) -> str:
        tensors, numbers = ([prompt, given], ()) if isinstance(given, Tensor) else ([prompt], (given,))
        clock = torch.full((2,), self.t)
        visit = self.tracker.visit(Given([clock], [self.x], tensors, self.weights, (), numbers, ("prompt", "control")))
        assert visit is not None
        trajectory = visit.trajectory
        if not trajectory.caches:
            trajectory.step = min(trajectory.step, 0)
            trajectory.caches["only"] = Cache()
        mode = self.tracker.begin(visit, DuCa(), 8)
        if mode == Mode.FULL:
            trajectory.caches["only"].put([Slot("kept")], [torch.zeros(1)], trajectory.calls)
        self.tracker.produced((output,), [self.x])
        return mode[0].upper()

    def run(self, steps: int, prompts: tuple[Tensor, ...] = (PROMPT,)) -> str:
        return "".join(self.step(at, prompts) for at in range(steps))


def tensor(at: int) -> Tensor:
    return noise(2, 16, 8, seed=100 + at)


def number(at: int) -> float:
    return 1.0 + 0.1 * at


@pytest.mark.parametrize("argument", [tensor, number])
def test_what_moves_is_learned_at_its_second_move_and_known_from_then_on(argument: Argument) -> None:
    sampling = Sampling(argument)
    assert sampling.run(7) == "FFCACAF"
    sampling.begin()
    assert sampling.run(6) == "FCACAF"


def test_guidance_in_two_calls_over_what_moves() -> None:
    sampling = Sampling(tensor)
    assert sampling.run(6, (PROMPT, NEGATIVE)) == "FFFFCCAACCAA"
    sampling.begin()
    assert sampling.run(3, (PROMPT, NEGATIVE)) == "FFCCAA"


def test_a_sampler_that_adds_noise_lets_what_moves_be_learned_a_step_later() -> None:
    sampling = Sampling(number, fresh=0.3)
    assert sampling.run(8) == "FFFCACAF"


def test_what_has_stayed_at_the_first_step_is_conditioning() -> None:
    sampling = Sampling(tensor)
    sampling.run(7)
    sampling.argument = lambda at: SWITCHED[at >= 3]
    sampling.begin()
    assert sampling.run(6) == "FCAFCA", "a prompt that is switched midway, though another one was blended before"


SWITCHED = (noise(2, 16, 8, seed=200), noise(2, 16, 8, seed=201))


def test_a_change_now_and_then_is_no_move() -> None:
    held = [noise(2, 16, 8, seed=300 + at) for at in range(4)]
    sampling = Sampling(lambda at: held[at // 2])
    assert sampling.run(8) == "FCFCFCFC"
    assert not any(sampling.tracker._moving.values())


def test_prompts_in_turns_keep_their_own_caches() -> None:
    sampling = Sampling(lambda at: SWITCHED[at % 2])
    assert sampling.run(6) == "FFCCAA"
    assert not any(sampling.tracker._moving.values())


def test_requests_in_turns_over_what_moves_are_told_apart_by_their_latents() -> None:
    one = Sampling(tensor)
    one.run(7)
    two = Sampling(lambda at: noise(2, 16, 8, seed=300 + at))
    two.tracker, two.weights, two.seed = one.tracker, one.weights, 70
    one.begin(), two.begin()
    assert [each.step(at) for at in range(4) for each in (one, two)] == list("FFCCAACC")


def test_where_the_latents_are_not_seen_to_go_on_it_is_said_which_argument_moves() -> None:
    sampling = Sampling(tensor)

    def loop() -> None:
        for at in range(6):
            x = sampling.x
            assert sampling.step(at) == "F"
            sampling.x = x  # a benchmark's loop, or latents that cannot be read

    with pytest.warns(DucaWarning, match=r"control changed at every step.*session\(key, steps=") as caught:
        loop()
    assert len(ours(caught)) == 1


def test_a_call_repeated_at_every_step_is_told_of() -> None:
    sampling = Sampling(lambda at: SWITCHED[0])
    with pytest.warns(DucaWarning, match="called several times at one timestep"):
        assert sampling.run(4, (PROMPT, PROMPT)) == "FFFFFFFF"


def test_nothing_is_said_of_what_is_accelerated() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        sampling = Sampling(tensor)
        for modes in ("FFFFCC", *["FFCCAA"] * 3):
            assert sampling.run(3, (PROMPT, NEGATIVE)) == modes
            sampling.begin()


@pytest.mark.parametrize("prompts", [1, 2])
def test_a_prompt_made_anew_for_every_call_of_a_sampler_that_adds_noise(prompts: int) -> None:
    sampling = Sampling(lambda at: 0.0, fresh=0.3)
    modes = ""
    for at in range(10):
        modes += sampling.step(at, tuple(torch.full((2, 3), float(which)) for which in range(prompts)))
    assert "C" in modes[: 5 * prompts]


def test_a_call_repeated_at_every_step_over_a_prompt_made_anew_is_told_of() -> None:
    sampling = Sampling(lambda at: 0.0)
    modes = ""

    def run() -> None:
        nonlocal modes
        for _ in range(6):
            output = sampling.x.roll(1, 2).sin()
            for _ in range(2):
                modes += sampling._call(torch.zeros(2, 3), 0.0, output)
            sampling.x, sampling.t = sampling.x - 0.05 * output, sampling.t - 10

    with pytest.warns(DucaWarning, match="called several times at one timestep"):
        run()
    assert set(modes) == {"F"}
