"""A failure that passes does not end caching; one that lasts does; the caller's own exceptions are the caller's."""

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import duca_compile
from duca_compile import DucaWarning, Mode, Options, Refused, refusal, session
from duca_compile.capture.flatten import Flatten
from duca_compile.generations.budget import Budget
from duca_compile.methods.duca import DuCa
from duca_compile.runtime import failures
from duca_compile.runtime.split.forward import Split
from duca_compile.runtime.split.part import PlainPart
from helpers import Planted, Timeless, lenient, ours, takes_caches
from zoo.case import Call, calls, noise, randomise
from zoo.core import CORE, example_dit
from zoo.own import CASES

CASE = CORE["example DiT"]
TIMES = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0, 780.0, 760.0]
NO_MEMORY = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "CPU, Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 137438953472 bytes."),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "host": MemoryError(),
}


class Fails:
    """An inner compiler whose cached graphs raise `error` the next `times` times that one runs."""

    def __init__(
        self, error: BaseException, times: int = 0, of: Callable[[fx.GraphModule], bool] = takes_caches
    ) -> None:
        self.error, self.times, self.of = error, times, of
        self.failed = 0

    def __call__(self, gm: fx.GraphModule, inputs: list[Any]) -> Any:
        def forward(*args: Any) -> Any:
            if self.of(gm) and self.times:
                self.times -= 1
                self.failed += 1
                raise self.error
            return gm(*args)

        return forward


def run(fast: Callable[..., Any], model: nn.Module, call: Call, times: list[float] = TIMES) -> list[str]:
    """The warnings of a generation. Its results have the model's shapes: how near cached ones are is told elsewhere."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for given in calls(call, times):
            assert fast(**given).shape == model(**given).shape
    return ours(caught)


def steps(model: nn.Module) -> str:
    counted = duca_compile.stats(model).steps
    return "".join(mode.name[0] * counted[mode] for mode in Mode)


@pytest.mark.parametrize("kind", NO_MEMORY)
def test_after_memory_ran_out_the_step_runs_again_without_other_caches(kind: str) -> None:
    model, inner = example_dit(), Fails(NO_MEMORY[kind])
    fast = lenient(model, inner=inner, order="conservative", cycle=4)
    given, before = calls(CASE.call, TIMES), calls(CASE.call, TIMES)
    for each in before[:2]:
        fast(**each)
    for each in given[:2]:
        fast(**each)
    assert duca_compile.stats(model).trajectories == 2
    inner.times = 1
    assert torch.equal(fast(**given[2]), model(**given[2])), "it is computed whole"
    assert duca_compile.stats(model).trajectories == 1
    for each in given[3:6]:
        fast(**each)
    assert inner.failed == 1
    assert steps(model) == "FFF" + "CC" + "CCC", "a step that failed counts for nothing"


def test_other_models_give_their_caches_too() -> None:
    other, model = example_dit(), example_dit()
    before = CASE.call(900.0)
    lenient(other)(**before)
    assert duca_compile.stats(other).bytes > 0
    inner = Fails(MemoryError(), times=1)
    run(lenient(model, inner=inner), model, CASE.call, TIMES[:3])
    assert (duca_compile.stats(other).bytes, inner.failed) == (0, 1)


def test_where_the_second_attempt_fails_too_the_plain_graph_runs() -> None:
    model = example_dit()
    inner = Fails(MemoryError(), of=lambda gm: takes_caches(gm) or stores_caches(gm))
    fast = lenient(model, inner=inner, order="conservative")
    given = calls(CASE.call, TIMES)
    for each in given[:2]:
        fast(**each)
    inner.times = 2
    assert torch.equal(fast(**given[2]), model(**given[2]))
    assert (inner.failed, steps(model), duca_compile.stats(model).bytes) == (2, "FC", 0)
    assert run(fast, model, CASE.call, TIMES[3:5]) == []
    assert steps(model) == "FFCC"


def stores_caches(gm: fx.GraphModule) -> bool:
    results: Any = gm.graph.output_node().args[0]
    return len(results) > 1


def test_memory_that_stays_short_ends_caching_with_advice() -> None:
    model, inner = example_dit(), Fails(NO_MEMORY["CUDA"], times=100)
    (warning,) = run(lenient(model, inner=inner), model, CASE.call)
    assert "memory ran out 3 times in a row; leave more of it: smaller caches (cache_dtype, cache_budget" in warning
    assert "fault of duca" not in warning
    assert inner.failed == failures.OUT_OF_MEMORY


def test_a_failed_step_holds_no_memory_while_it_runs_again() -> None:
    """Its frames would keep its activations until the exception is gone."""
    alive: list[bool] = []
    error = MemoryError()

    class Large:
        pass

    def inner(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        def forward(*args: Any) -> Any:
            if takes_caches(gm):
                activation = Large()
                gc.collect()
                known.append(weakref.ref(activation))
                raise error
            alive.extend(ref() is not None for ref in known)
            return gm(*args)

        return forward

    known: list[Any] = []
    model = example_dit()
    run(lenient(model, inner=inner), model, CASE.call, TIMES[:2])
    assert alive == [False]


def test_one_fault_is_forgiven_and_two_in_a_row_are_not() -> None:
    model, inner = example_dit(), Fails(Planted("a planted fault"))
    fast = lenient(model, inner=inner)
    run(fast, model, CASE.call, TIMES[:2])
    for _ in range(3):
        inner.times = 1
        assert run(fast, model, CASE.call, TIMES[2:7]) == [], "a step that works comes between"
    inner.times = 2
    (warning,) = run(fast, model, CASE.call)
    assert "Planted: a planted fault; this is a fault of duca" in warning
    before = steps(model)
    run(fast, model, CASE.call)
    assert steps(model) == before, "all runs as the plain graph"


def test_a_fault_of_one_mode_ends_caching_though_the_others_work() -> None:
    model = example_dit()
    inner = Fails(Planted(), times=100, of=lambda gm: takes_frontier_alone(gm))
    fast = lenient(model, inner=inner)
    assert len(run(fast, model, CASE.call)) == 1
    assert inner.failed == failures.FAULTS


def takes_frontier_alone(gm: fx.GraphModule) -> bool:
    names = [node.name for node in gm.graph.find_nodes(op="placeholder")]
    return takes_caches(gm) and not any(name.startswith("selected_") for name in names)


class Stopped(Exception):
    pass


class Watched(nn.Module):
    """Calls back before it works, from inside of the graph."""

    armed = False

    def __init__(self) -> None:
        super().__init__()
        self.model = example_dit()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.model(call_back(x), t, y)
        return result


@torch.library.custom_op("duca_test::call_back", mutates_args=())
def call_back(x: Tensor) -> Tensor:
    if Watched.armed:
        raise Stopped
    return x.clone()


@call_back.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_exception_of_the_callers_own_comes_through_and_caching_goes_on(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Watched().eval()
    fast, given = lenient(model), calls(CASE.call, TIMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        for each in given[:after]:
            fast(**each)
        monkeypatch.setattr(Watched, "armed", True)
        for _ in range(5):
            with pytest.raises(Stopped):
                fast(**given[after])
        monkeypatch.setattr(Watched, "armed", False)
        assert duca_compile.stats(model).bytes == 0
        assert torch.equal(fast(**given[after]), model(**given[after]))
        counted = duca_compile.stats(model).steps[Mode.CONSERVATIVE]
        fast(**given[after + 1])
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == counted + 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_warning_of_ours_made_an_error_is_raised_once_all_is_in_order(times: int) -> None:
    """It is no fault of duca, and the calls after it run."""
    model, inner = example_dit(), Fails(Planted("a planted fault"), times=times)
    fast, raised = lenient(model, inner=inner, order="aggressive"), []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        for given in calls(CASE.call, TIMES):
            try:
                got = fast(**given)
            except DucaWarning as warning:
                raised.append(str(warning))
            else:
                assert got.shape == given["x"].shape
    assert len(raised) == (times > 1)
    assert all("a planted fault" in text and "DucaWarning" not in text for text in raised)
    plain = steps(model)
    fast(**CASE.call(500.0))
    assert (steps(model) == plain) == (times > 1)


def test_a_refusal_made_an_error_between_steps() -> None:
    """The graph was made in a session that counts; outside of it nothing tells steps apart, which is worth a warning."""
    model, given = randomise(Timeless()), {"x": noise(2, 6, 8)}
    fast = lenient(model)
    with session("a", steps=50):
        fast(**given)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        with pytest.raises(DucaWarning, match="steps cannot be told apart") as raised:
            fast(**given)
        assert "fault of duca" not in str(raised.value)
        assert torch.equal(fast(**given), model(**given))
        with session("b", steps=50):
            fast(**given)
            fast(**given)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1


def test_a_split_forward_pass_is_given_up_although_the_warning_is_an_error() -> None:
    split = Split(Options(DuCa(), inner="eager"), Budget(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        with pytest.raises(DucaWarning, match="a reason"):
            split.give_up(Refused("a reason"))
        assert split.given_up
        split.give_up(Refused("another"))


def test_a_part_that_runs_as_it_is_has_run_before_a_warning_is_raised() -> None:
    class Warns:
        def pass_by(self, args: Any) -> Callable[[Any], None]:
            refusal.warn("something")
            return done.append

    done: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        with pytest.raises(DucaWarning, match="something"):
            PlainPart(lambda x: x + 1, Flatten((None,)), Warns())(1)
    assert done == [2]


WARNED = [
    "duca_compile.study.capture",
    "duca_compile.torch_private.export_functional",
    "duca_compile.analysis.analyse.find_residuals",
    "duca_compile.study.make_plan",
    "duca_compile.backend.rewrite",
]


@pytest.mark.parametrize("stage", [*WARNED, "inner"])
def test_warnings_made_errors_do_not_end_acceleration(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when torch deprecates what a capture calls: plain `torch.compile` does not call it."""

    def deprecated(work: Callable[..., Any]) -> Callable[..., Any]:
        def warns(*args: Any, **kwargs: Any) -> Any:
            warnings.warn("an old way", FutureWarning, stacklevel=1)
            return work(*args, **kwargs)

        return warns

    inner: Any = "eager"
    if stage == "inner":
        inner = deprecated(lambda gm, inputs: gm.forward)
    else:
        module, _, name = stage.rpartition(".")
        monkeypatch.setattr(stage, deprecated(getattr(__import__(module, fromlist=[name]), name)))
    model = example_dit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
        fast = lenient(model, inner=inner)
        for given in calls(CASE.call, TIMES[:3]):
            fast(**given)
    assert steps(model) == "FCA"


@pytest.mark.parametrize("kind", ["always", "ignore", "default"])
def test_warnings_of_a_capture_are_shown_as_the_user_has_it(kind: Any) -> None:
    from duca_compile.refusal import shown_not_raised

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error", category=DeprecationWarning)
        warnings.simplefilter(kind, category=FutureWarning)
        with shown_not_raised():
            warnings.warn("an old way", FutureWarning, stacklevel=1)
            warnings.warn("an older way", DeprecationWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ([] if kind == "ignore" else ["an old way"])


@pytest.mark.parametrize("dynamic", [None, True])
def test_an_empty_batch_is_a_batch_as_any_other(dynamic: bool | None) -> None:
    case = CASES["parallel attention and MLP"]
    model, given = case.model(), calls(case.call, TIMES[:3])
    fast = torch.compile(model, backend="duca", dynamic=dynamic, options={"method": "duca", "inner": "eager"})
    for each in given:
        fast(**each)
    nothing = {name: tensor[:0] for name, tensor in given[0].items()}
    assert fast(**nothing).shape == model(**nothing).shape
    for each in given:
        fast(**each)
    assert steps(model) == "FFFF" + "CC" + "A", "the last call is the very same as one before"


def test_an_empty_batch_that_needs_no_sizes_is_cached_as_any_other() -> None:
    model, x = randomise(Timeless()), noise(0, 6, 8)
    fast = lenient(model, strict=True)
    with session("a", steps=50):
        assert [fast(x).shape for _ in range(4)] == [x.shape] * 4
    assert steps(model) == "FCCA"
