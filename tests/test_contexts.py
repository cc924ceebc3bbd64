"""`diffusers`' cache_context, where a pipeline enters it."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import duca_compile
from duca_compile import Mode
from duca_compile.generations import diffusers_context
from duca_compile.generations.diffusers_context import Context
from helpers import first, lenient
from zoo.case import randomise
from zoo.core import flux, flux_call

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE


@pytest.fixture
def model() -> Any:
    return randomise(flux())


class Calls:
    """Calls over the same tensors, in contexts."""

    def __init__(self, model: Any) -> None:
        self.model, self.fast = model, lenient(model)
        self.given = flux_call(900.0)
        with model.cache_context("warm"):
            self.call(990.0)
        duca_compile.reset(model)

    def call(self, t: float) -> Tensor:
        return first(self.fast(**{**self.given, "timestep": torch.full((2,), t / 1000)}))

    def mode(self, t: float, name: str, **fields: int) -> Mode:
        before = duca_compile.stats(self.model).steps
        with self.fast.cache_context(name, **fields):
            self.call(t)
        after = duca_compile.stats(self.model).steps
        return next(mode for mode in Mode if after[mode] > before[mode])


def test_names_tell_the_calls_of_a_step_apart(model: Any) -> None:
    calls = Calls(model)
    modes = [calls.mode(t, name) for t in (900.0, 880.0, 860.0) for name in ("cond", "uncond")]
    assert modes == [F, F, C, C, A, A]
    assert "called again at the same timestep" not in duca_compile.stats(model).resets


def test_the_pipelines_count_tells_the_next_step(model: Any) -> None:
    calls = Calls(model)
    assert [calls.mode(t, "cond", step_index=at) for at, t in enumerate([900.0, 880.0, 880.0, 860.0])] == [F, C, A, C]
    assert calls.mode(840.0, "cond", step_index=0) is F, "a generation that begins anew, lower down"
    assert calls.mode(820.0, "cond", step_index=1) is C
    assert calls.mode(800.0, "cond", step_index=1) is F, "the same step again"


def test_where_count_and_timestep_speak_against_each_other_nothing_is_reused(model: Any) -> None:
    calls = Calls(model)
    calls.mode(900.0, "cond", step_index=0)
    calls.mode(880.0, "cond", step_index=1)
    with pytest.warns(duca_compile.DucaWarning, match=r"step_index.*duca_compile.session\(key, steps=...\)"):
        assert calls.mode(950.0, "cond", step_index=2) is F


def test_models_of_other_houses_have_no_context() -> None:
    assert diffusers_context.of(None) is None
    assert diffusers_context.of(torch.nn.Linear(1, 1)) is None


def test_the_model_stays_as_it_is(model: Any) -> None:
    calls = Calls(model)
    assert calls.mode(900.0, "cond") is F
    assert not model._diffusers_hook.hooks
    assert "forward" not in vars(model)


def test_a_context_is_known_at_the_first_call(model: Any) -> None:
    with model.cache_context("cond", step_index=3, num_inference_steps=8):
        assert diffusers_context.of(model) == Context("cond", 3, 8)
    assert diffusers_context.of(model) is None
    with model.cache_context("uncond"):
        assert diffusers_context.of(model) == Context("uncond", None, None)


def in_two_threads(run: Callable[[str, threading.Barrier], None]) -> None:
    """Runs it as "cond" and as "uncond"; the barrier lets both of them pass or none."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(2, timeout=20)

    def running(name: str) -> None:
        try:
            run(name, barrier)
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=running, args=(name,)) for name in ("cond", "uncond")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("joined", [False, True])
def test_a_context_is_known_to_the_thread_that_entered_it_alone(model: Any, joined: bool) -> None:
    with model.cache_context("warm"):
        pass
    if joined:
        diffusers_context.of(model)

    def run(name: str, barrier: threading.Barrier) -> None:
        with model.cache_context(name):
            barrier.wait()
            found = diffusers_context.of(model)
            assert found == Context(name, None, None) if joined else found is None, "who says what is not known yet"
            barrier.wait()
        barrier.wait()
        assert diffusers_context.of(model) is None
        with model.cache_context("again"):
            assert diffusers_context.of(model) == Context("again", None, None)

    in_two_threads(run)


def test_what_all_threads_entered_before_the_first_call_is_known_to_all(model: Any) -> None:
    with model.cache_context("warm"):
        pass

    def run(name: str, barrier: threading.Barrier) -> None:
        with model.cache_context("cond"):
            barrier.wait()
            assert diffusers_context.of(model) == Context("cond", None, None)
            barrier.wait()

    in_two_threads(run)


def test_a_model_that_has_run_in_a_context_can_be_pickled_and_copied(model: Any) -> None:
    Calls(model)
    pickled = pickle.dumps(model)
    assert b"duca_compile" not in pickled, "it can be read where there is no duca-compile"
    for twin in (pickle.loads(pickled), copy.deepcopy(model)):
        with model.cache_context("cond"), twin.cache_context("uncond"):
            assert diffusers_context.of(twin) == Context("uncond", None, None)
            assert diffusers_context.of(model) == Context("cond", None, None)
