"""Pipelines of `diffusers`, their own code and schedulers unchanged, over a compiled transformer."""

import copy
import gc
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from duca_compile.methods.cycles import CycleClock
from duca_compile.runtime import registry
from pipelines import PIPELINES, generate

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE
OPTIONS: dict[str, Any] = {"method": "duca", "inner": "eager", "cache_ratio": 0.5}
TWO_CALLS = {"Wan"}
"""Pipelines that call the model twice a step, for guidance; the others that guide do so in one batch."""


def assigned(pipe: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer, backend="duca", options=OPTIONS)


def compiled_in_place(pipe: Any) -> None:
    pipe.transformer.compile(backend="duca", options=OPTIONS)


class Aborted(Exception):
    pass


class Studio:
    """A pipeline over a compiled transformer that has made one generation."""

    def __init__(self, name: str, way: Callable[[Any], None]) -> None:
        torch.manual_seed(0)
        self.name = name
        self.pipe, self.given = PIPELINES[name]()
        self.pipe.set_progress_bar_config(disable=True)
        self.plain = self.pipe.transformer
        way(self.pipe)
        self.calls = 2 if name in TWO_CALLS else 1
        self.first = self.generate("a red dog")

    def generate(self, prompt: str, **more: Any) -> Tensor:
        return generate(self.pipe, self.given, prompt, **more)

    def alone(self, prompt: str, **more: Any) -> Tensor:
        """As in a fresh process."""
        duca_compile.reset(self.plain)
        return self.generate(prompt, **more)

    def modes(self, run: Callable[[], object]) -> dict[Mode, int]:
        before = duca_compile.stats(self.plain).steps
        run()
        after = duca_compile.stats(self.plain).steps
        return {mode: after[mode] - before[mode] for mode in Mode}

    def abort(self, prompt: str, after: int) -> None:
        """An exception out of the scheduler, in the middle of the pipeline's loop."""
        step, count = self.pipe.scheduler.step, itertools.count(1)

        def failing(*args: Any, **kwargs: Any) -> Any:
            if next(count) > after:
                raise Aborted
            return step(*args, **kwargs)

        self.pipe.scheduler.step = failing
        try:
            with pytest.raises(Aborted):
                self.generate(prompt)
        finally:
            del self.pipe.scheduler.step

    def interrupt(self, prompt: str, after: int) -> list[int]:
        """As a user's stop button does. The steps that were made."""
        seen: list[int] = []

        def stop(pipe: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
            seen.append(step)
            pipe._interrupt = step >= after
            return given

        self.generate(prompt, callback_on_step_end=stop)
        return seen


STUDIOS = [
    pytest.param((name, way), id=f"{name}, {way.__name__}", marks=pytest.mark.slow if slow else [])
    for name in PIPELINES
    for way, slow in ((assigned, False), (compiled_in_place, name not in ("FLUX", "Wan")))
]


@pytest.fixture(params=STUDIOS)
def studio(request: pytest.FixtureRequest) -> Iterator[Studio]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Studio(*request.param)
    torch.set_num_threads(threads)


def test_a_pipeline_generates_as_in_a_process_of_its_own_whatever_came_before(studio: Studio) -> None:
    cat, dog = studio.alone("a blue cat"), studio.alone("a red dog on the moon")
    duca_compile.reset(studio.plain)
    assert not torch.equal(cat, dog)
    modes = studio.modes(lambda: studio.generate("a blue cat"))
    assert sum(modes.values()) == 10 * studio.calls
    assert modes[F] <= (6 if studio.name == "DiT" else 5) * studio.calls, "DiT's sampler clips: it is believed later"
    assert torch.equal(studio.generate("a blue cat"), cat)
    assert torch.equal(studio.generate("a red dog on the moon"), dog)
    for after in (0, 1, 4):
        studio.abort("a blue cat", after)
        assert torch.equal(studio.generate("a blue cat"), cat)
        studio.abort("a blue cat", after)
        assert torch.equal(studio.generate("a red dog on the moon"), dog)
    if "callback_on_step_end" in inspect.signature(studio.pipe.__call__).parameters:
        assert studio.interrupt("a blue cat", after=2) == [0, 1, 2]
        assert torch.equal(studio.generate("a blue cat"), cat)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CycleClock, "next", lambda self, place: F)
        full = studio.generate("a blue cat")
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(full, studio.generate("a blue cat"))


def test_the_first_image_of_a_process_is_made_as_all_others() -> None:
    studio = Studio("FLUX", assigned)
    modes = duca_compile.stats(studio.plain).steps
    assert modes[F] < 10
    assert studio.modes(lambda: studio.generate("a red dog")) == modes
    assert torch.equal(studio.first, studio.generate("a red dog"))


@pytest.mark.parametrize("keyed", [False, True])
def test_images_made_in_threads_equal_those_made_alone(keyed: bool) -> None:
    studio = Studio("FLUX", assigned)
    prompts = ["a blue cat", "a red dog", "the moon"]
    alone = [studio.alone(prompt) for prompt in prompts]
    barrier = threading.Barrier(len(prompts), timeout=60)

    def in_turns(pipe: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        barrier.wait()
        return given

    def made(prompt: str) -> Tensor:
        own = copy.copy(studio.pipe)
        for part in ("scheduler", "tokenizer", "tokenizer_2"):  # they keep a state of their own
            setattr(own, part, copy.deepcopy(getattr(own, part)))
        with torch.no_grad(), duca_compile.session(prompt) if keyed else nullcontext():
            return generate(own, studio.given, prompt, callback_on_step_end=in_turns)

    duca_compile.reset(studio.plain)
    with ThreadPoolExecutor(len(prompts)) as pool:
        found = list(pool.map(made, prompts))
    assert [torch.equal(*pair) for pair in zip(found, alone, strict=True)] == [True] * len(prompts)


def test_a_pipeline_leaves_no_caches_when_it_goes() -> None:
    studio = Studio("FLUX", assigned)
    model: nn.Module = studio.plain
    gone = weakref.ref(model)
    graphs = registry.graphs(model)
    trackers = registry.trackers(model)
    studio.generate("a blue cat")
    assert graphs
    assert not duca_compile.stats(model).bytes, "the prompt's tensors are gone, and the caches with them"
    del studio, model
    gc.collect()
    assert gone() is None
    assert not any(tracker.live for tracker in trackers)
