"""Sessions keep generations apart that nothing else tells apart."""

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import duca_compile
from duca_compile import DucaWarning, Mode, session
from duca_compile.generations import sessions
from helpers import Generation, Timeless, compiled, lenient, ours
from zoo.case import calls, noise, randomise
from zoo.core import example_dit
from zoo.own import CASES

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE


@pytest.fixture
def generation() -> Generation:
    model = example_dit()
    return Generation(model, compiled(model), torch.tensor([1, 2]))


def test_a_session_starts_over_at_a_lower_timestep(generation: Generation) -> None:
    with session():
        assert generation.modes([900.0, 860.0, 820.0]) == [F, C, A]
    with session():
        assert generation.modes([780.0, 740.0]) == [F, C]
    assert generation.modes([700.0, 660.0]) == [F, C]


def test_requests_over_the_same_tensors_and_noise_interleave(generation: Generation) -> None:
    modes = []
    one, two = (Generation(generation.model, generation.fast, generation.labels) for _ in range(2))
    for t in (900.0, 860.0, 820.0):
        for each, request, ahead in ((one, "a", 0.0), (two, "b", 50.0)):
            with session(request):
                modes.append(each.mode(t - ahead))
    assert modes == [F, F, C, C, A, A]


def test_the_innermost_session_counts_and_an_exception_leaves_it(generation: Generation) -> None:
    with session("outer"):
        generation.modes([900.0, 860.0])
        with session("inner"):
            assert generation.mode(820.0) is F
        with contextlib.suppress(KeyError), session("inner"):
            raise KeyError
        assert generation.mode(820.0) is A
    assert sessions.current() is None


def test_counted_sessions_need_no_timestep_that_travels(generation: Generation) -> None:
    generation.travel = 0.0  # the latents stay
    with session("request", steps=6):
        assert generation.modes([900.0, 900.0, 880.0, 880.0, 840.0, 820.0]) == [F, C, A, C, A, F]
        assert generation.modes([780.0, 740.0]) == [F, C], "six steps are done: another generation"


@pytest.mark.parametrize(
    ("begins", "goes_on", "resumes"),
    [
        pytest.param([500.0], [940.0, 920.0], [F, F, C], id="up, before a second step"),
        pytest.param([900.0, 880.0, 860.0], [880.0, 860.0], [F, C, A], id="up"),
        pytest.param([900.0, 880.0, 860.0], [600.0, 580.0], [F, C, A], id="far down"),
    ],
)
def test_a_counted_generation_over_the_same_noise_starts_where_the_timestep_does_not_travel_on(
    generation: Generation, begins: list[float], goes_on: list[float], resumes: list[Mode]
) -> None:
    """The loop before was left early, without an exception: its count does not go on."""
    generation.travel = 0.0
    with session("request", steps=50):
        generation.modes(begins)
    with session("request", steps=50):
        assert generation.modes([*goes_on, goes_on[-1] - 20.0]) == resumes


def test_a_counted_generation_starts_where_its_latents_are_no_longer_made_of_the_last_ones(
    generation: Generation,
) -> None:
    with session("request", steps=50):
        assert generation.modes([900.0, 880.0, 860.0]) == [F, C, A]
        generation.x = generation.x + 0.3 * noise(2, 1, 8, 8, seed=99)
        assert generation.modes([840.0, 820.0]) == [F, C], "the noise with which an image begins"


def test_a_session_that_counts_other_steps_is_another_generation(generation: Generation) -> None:
    with session("request", steps=8):
        assert generation.modes([900.0, 880.0]) == [F, C]
    with session("request", steps=12):
        assert generation.modes([860.0, 840.0]) == [F, C]


def test_a_counted_generation_that_was_given_up_is_not_gone_on_from(generation: Generation) -> None:
    with session("request", steps=50):
        generation.modes([900.0, 880.0])
    with contextlib.suppress(KeyError), session("request", steps=50):
        assert generation.mode(860.0) is A
        raise KeyError
    with session("request", steps=50):
        assert generation.modes([840.0, 820.0]) == [F, C], "an exception ended it"
        assert generation.modes([900.0, 880.0]) == [F, C], "the timestep is back where it began, over new noise"
        generation.travel = 0.0
        assert generation.modes([860.0, 840.0]) == [A, C]
        assert generation.modes([900.0, 880.0]) == [F, C], "the timestep is back where it began"
        generation.x = noise(2, 1, 8, 8, seed=99)
        assert generation.modes([880.0, 860.0]) == [F, C], "new noise, and the timestep has not moved on"
        generation.x = noise(2, 1, 8, 8, seed=98)
        assert generation.mode(840.0) is A, "as under a sampler that draws all noise anew"


def test_a_counted_model_that_counts_up_starts_over_where_it_began(generation: Generation) -> None:
    """Under a sampler that draws all noise anew at every step, so that latents never look alike."""

    def mode(t: float, seed: int) -> Mode:
        generation.travel, generation.x = 0.0, noise(2, 1, 8, 8, seed=seed)
        return generation.mode(t)

    with session("request", steps=50):
        assert [mode(100.0 + 20 * step, step) for step in range(4)] == [F, F, C, A], "up, which the second step shows"
        assert mode(90.0, 9) is F, "another generation"


def steps_of(generation: Generation, key: Any, **given: Any) -> Generator[Mode, None, None]:
    """A generator that holds a session while it runs."""
    with session(key, **given):
        for t in (900.0, 880.0, 860.0, 840.0):
            yield generation.mode(t)


@pytest.mark.parametrize("given", [{}, {"steps": 50}])
def test_a_generator_takes_its_session_along_when_it_yields(generation: Generation, given: dict[str, int]) -> None:
    one, two = (Generation(generation.model, generation.fast, generation.labels) for _ in range(2))
    turns = steps_of(one, "one", **given), steps_of(two, "two", **given)
    modes = []
    for _ in range(3):
        for each in turns:
            modes.append(next(each))
            assert sessions.current() is None
    assert modes == [F, F, C, C, A, A]
    turns[0].close()
    assert next(turns[1]) is C
    del turns
    gc.collect()
    assert sessions.current() is None


def test_a_generator_goes_on_in_its_session_wherever_it_is_run() -> None:
    """As by `asyncio.to_thread(next, steps)`: each step has a context, and perhaps a thread, of its own."""

    def running(key: str) -> Generator[list[Any], None, None]:
        with session(key):
            while True:
                found = [sessions.current()]
                with session("inner"):
                    found.append(sessions.current())
                found.append(sessions.current())
                yield found

    turns = running("one"), running("two")
    seen = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            for each in turns:
                seen.append(contextvars.copy_context().run(next, each))
                seen.append(pool.submit(contextvars.copy_context().run, next, each).result())
                with session("around each step"):
                    seen.append(next(each))
                    held = sessions.current()
                    assert held is not None
                    assert held.key == ("around each step",)
                assert sessions.current() is None
    keys = [[held.key[0] for held in each] for each in seen]
    assert keys == [["one", "inner", "one"]] * 3 + [["two", "inner", "two"]] * 3 + keys[:6]
    for each in turns:
        each.close()
    assert not sessions._in_generators


def test_a_session_made_by_another_manager_holds_for_its_block(generation: Generation) -> None:
    @contextlib.contextmanager
    def served() -> Iterator[None]:
        with session("request"):
            yield

    def running() -> Iterator[bool]:
        with served():
            yield sessions.current() is not None

    with contextlib.ExitStack() as stack:
        stack.enter_context(served())
        assert sessions.current() is not None
    assert sessions.current() is None
    turns = running()
    assert next(turns)
    assert sessions.current() is None


def test_a_session_left_elsewhere_is_over_everywhere() -> None:
    with contextlib.ExitStack() as stack:
        outer = session("outer")
        stack.enter_context(outer)
        inner = session("inner")
        inner.__enter__()
        contextvars.copy_context().run(outer.__exit__, None, None, None)
        assert sessions.current() is inner
        inner.__exit__(None, None, None)
        assert sessions.current() is None
        with pytest.raises(RuntimeError, match="entered already"), inner, inner:
            pass


def test_tasks_and_the_threads_they_wait_for_are_in_the_session(generation: Generation) -> None:
    async def request(key: str) -> list[Any]:
        with session(key):
            await asyncio.sleep(0)
            return [await asyncio.to_thread(sessions.current), sessions.current()]

    async def both() -> Sequence[list[Any]]:
        return await asyncio.gather(request("a"), request("b"))

    for key, found in zip("ab", asyncio.run(both()), strict=True):
        assert [held.key for held in found] == [(key,)] * 2


def test_a_key_must_be_hashable() -> None:
    key: Any = ["list"]
    with pytest.raises(TypeError, match="must be hashable"):
        session(key)


@pytest.mark.parametrize("given", [nn.Linear(2, 2), SimpleNamespace(components={})])
def test_a_model_is_no_key(given: Any) -> None:
    with pytest.raises(TypeError, match=r"names a generation.*session\(steps=...\)"):
        session(given)


def test_counted_sessions_tell_conditionings_apart(generation: Generation) -> None:
    other = Generation(generation.model, generation.fast, torch.tensor([3, 4]))
    modes = []
    for t in (900.0, 880.0, 860.0):
        for each in (generation, other):
            with session("request", steps=50):
                modes.append(each.mode(t))
    assert modes == [F, F, C, C, A, A]


def test_a_model_without_a_timestep_is_accelerated_in_a_session_that_counts() -> None:
    model, x = randomise(Timeless()), noise(2, 6, 8)
    fast = lenient(model, cycle=2, order="aggressive")
    with pytest.warns(
        DucaWarning,
        match=r"steps cannot be told apart.*Python number, give it as a tensor.*duca_compile.session\(key, steps=...\)",
    ) as caught:
        assert all(torch.equal(fast(x * scale), model(x * scale)) for scale in (1.0, 2.0, 3.0))
    assert len(ours(caught)) == 1
    assert duca_compile.stats(model).bytes == 0
    for _ in range(2):
        with session(steps=4):
            full, cached = fast(x), fast(2 * x)
        assert torch.equal(full, model(x))
        assert torch.equal(cached, full), "the stream of the step before, and there is no timestep for the final layer"
    assert duca_compile.stats(model).steps == {F: 2, A: 2}
    assert duca_compile.stats(model).bytes == 0, "a session without a key is over at its end"
    with pytest.raises(duca_compile.Refused, match="steps cannot be told apart"):
        lenient(model, strict=True)(x)


def test_a_model_without_a_timestep_is_compiled_once_for_all_sizes() -> None:
    model = randomise(Timeless())
    sizes: list[int] = []

    def inner(gm: Any, inputs: Any) -> Any:
        sizes.append(len(inputs))
        return gm.forward

    fast = torch.compile(model, backend="duca", options={"method": "duca", "inner": inner}, dynamic=True)
    with pytest.warns(DucaWarning, match="steps cannot be told apart"):
        fast(noise(2, 6, 8))
    for batch in (3, 4):
        assert torch.equal(fast(noise(batch, 6, 8)), model(noise(batch, 6, 8)))
    assert len(sizes) == 1


def test_the_calls_of_a_session_may_come_from_any_thread(generation: Generation) -> None:
    def mode(t: float) -> Mode:
        with torch.no_grad(), session("request"):
            return generation.mode(t)

    modes = []
    for t in (900.0, 880.0, 860.0):
        with ThreadPoolExecutor(1) as worker:
            modes.append(worker.submit(mode, t).result())
    assert modes == [F, C, A]


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, "5"])
def test_a_session_counts_whole_steps(steps: Any) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        session(steps=steps)


def test_a_split_forward_pass_has_sessions_too() -> None:
    case = CASES["routed experts"]
    model = case.model()
    fast = lenient(model, cycle=5)
    with torch.no_grad():
        given = calls(case.call, [900.0, 880.0, 860.0, 840.0, 820.0])
        for call in given[:3]:
            fast(**call)
        steps = duca_compile.stats(model).steps
        with session():
            fast(**given[3])
        assert duca_compile.stats(model).steps[F] == steps[F] + 1
        fast(**given[3])
        assert duca_compile.stats(model).steps[F] == steps[F] + 1


def test_a_timestep_that_is_a_number_is_asked_for_as_a_tensor() -> None:
    model, labels = example_dit(), torch.tensor([1, 2])
    fast = lenient(lambda x, t: model(x, torch.full((2,), t), labels))
    with torch.no_grad(), pytest.warns(DucaWarning, match="give it as a tensor"):
        fast(noise(2, 1, 8, 8), 900)
