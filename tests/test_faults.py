"""Never worse: whatever fails in our part, the caller gets the inner compiler's result and one warning with the reason."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import duca_compile
from duca_compile import DucaWarning, Mode, torch_private
from duca_compile.passes import PIPELINE
from duca_compile.refusal import REPORT
from helpers import Planted, first, lenient, ours, takes_caches
from zoo.case import Call, calls, noise, randomise
from zoo.core import CORE, example_dit

STAGES = [
    "duca_compile.study.capture",
    "duca_compile.torch_private.export_functional",
    "duca_compile.capture.capture.canonicalise",
    "duca_compile.capture.canonicalise._same_value",
    "duca_compile.analysis.analyse.find_inputs",
    "duca_compile.analysis.analyse.find_residuals",
    "duca_compile.analysis.residuals.peel",
    "duca_compile.analysis.analyse.chains",
    "duca_compile.analysis.analyse.token_path",
    "duca_compile.analysis.token_paths.rule",
    "duca_compile.analysis.analyse.find_blocks",
    "duca_compile.study.make_plan",
    "duca_compile.backend.rewrite",
    "duca_compile.passes.check",
    *sorted({f"{type(step).__module__}.{type(step).__name__}.run" for step in PIPELINE}),
    "duca_compile.runtime.steps.Tracker.visit",
    "duca_compile.runtime.steps.registry.add",
    "duca_compile.runtime.dispatch.Dispatcher._run",
    "duca_compile.runtime.dispatch.layout",
    "duca_compile.runtime.dispatch.delivered",
    "duca_compile.generations.draw_tokens.RandomTokens.draw",
]
NAMES_ITS_NODE = {
    "duca_compile.capture.canonicalise._same_value",
    "duca_compile.analysis.residuals.peel",
    "duca_compile.analysis.analyse.token_path",
    "duca_compile.analysis.token_paths.rule",
}
TIMES = [900.0, 880.0, 860.0, 840.0]


def fail(*args: Any, **kwargs: Any) -> Any:
    raise Planted("a planted fault")


def run(model: Callable[..., Any], call: Call) -> list[Tensor]:
    return [first(model(**given)) for given in calls(call, TIMES)]


def check_falls_back(model: nn.Module, call: Call, **options: Any) -> str:
    """Runs a trajectory and gives the warning; every result is the plain model's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = run(lenient(model, **options), call)
    want = run(model, call)
    assert [torch.equal(a, b) for a, b in zip(got, want, strict=True)] == [True] * len(TIMES)
    (warning,) = ours(caught)
    return warning


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_in_any_stage_leaves_the_plain_result(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, fail)
    warning = check_falls_back(example_dit(), CORE["example DiT"].call, cache_ratio=0.5)
    assert "Planted: a planted fault" in warning
    assert "please report it" in warning
    assert ("(at %" in warning) == (stage in NAMES_ITS_NODE)


@pytest.mark.parametrize("stage", ["duca_compile.study.capture", "duca_compile.analysis.token_paths.rule"])
@pytest.mark.parametrize("told", ["a planted fault\n" + "of many lines\n" * 300, "a planted fault" + ", long" * 300])
def test_of_a_long_error_the_beginning_is_shown_and_the_rest_is_logged(
    stage: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_at_length(*args: Any, **kwargs: Any) -> Any:
        raise Planted(told)

    monkeypatch.setattr(stage, fail_at_length)
    with caplog.at_level(logging.DEBUG, "duca_compile"):
        warning = check_falls_back(example_dit(), CORE["example DiT"].call, cache_ratio=0.5)
    assert "Planted: a planted fault" in warning
    assert "please report it" in warning
    assert ("(at %" in warning) == (stage in NAMES_ITS_NODE)
    assert "\n" not in warning
    assert len(warning) < 450
    assert any(told in record.getMessage() for record in caplog.records)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_in_any_stage_of_any_model(name: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomise(CORE[name].build())
    monkeypatch.setattr(stage, fail)
    assert "Planted" in check_falls_back(model, CORE[name].call, cache_ratio=0.5)


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE])
@pytest.mark.parametrize("when", ["compiling", "running"])
def test_an_inner_compiler_that_fails_on_a_rewritten_graph(mode: Mode, when: str) -> None:
    """The first two graphs compiled are ours, FULL then a cached one; the plain graph compiles and runs."""
    compilations = []

    def inner(gm: fx.GraphModule, inputs: list[Any]) -> Any:
        compilations.append(gm)
        broken = takes_caches(gm) if mode != Mode.FULL else len(compilations) == 1
        if broken and when == "compiling":
            fail()
        return fail if broken else gm.forward

    order = "aggressive" if mode == Mode.AGGRESSIVE else "conservative"
    warning = check_falls_back(example_dit(), CORE["example DiT"].call, order=order, inner=inner)
    assert "a planted fault" in warning
    assert len(compilations) == (2 if mode == Mode.FULL else 3)


def test_a_fault_in_the_call_itself_is_the_callers() -> None:
    """A label out of range fails in the plain graph as well: its error comes through, and the cache works on after it."""
    model = example_dit()
    fast = lenient(model)
    x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        fast(x, torch.full((2,), 900.0), labels)
        with pytest.raises(IndexError):
            fast(x, torch.full((2,), 880.0), torch.tensor([1, 2000]))
        for t in (800.0, 780.0):
            fast(x, torch.full((2,), t), labels)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1


def test_an_interrupt_comes_through_and_leaves_no_cache() -> None:
    class Interrupts:
        """Its graphs run until `armed`."""

        armed = False

        def __call__(self, gm: fx.GraphModule, inputs: list[Any]) -> Any:
            def forward(*args: Any) -> Any:
                if self.armed:
                    raise KeyboardInterrupt
                return gm(*args)

            return forward

    inner, model, case = Interrupts(), example_dit(), CORE["example DiT"]
    fast, call = lenient(model, inner=inner), case.call(900.0)
    fast(**call)
    inner.armed = True
    with pytest.raises(KeyboardInterrupt):
        fast(**{**call, "t": call["t"] - 20})
    inner.armed = False
    assert duca_compile.stats(model).bytes == 0
    assert torch.equal(fast(**{**call, "t": call["t"] - 40}), model(**{**call, "t": call["t"] - 40}))


def test_strict_raises_a_fault_with_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duca_compile.analysis.token_paths.rule", fail)
    with pytest.raises(Exception, match=r"Planted: a planted fault \(at %"):
        lenient(example_dit(), strict=True)(**CORE["example DiT"].call(900.0))


def test_what_goes_wrong_in_a_step_is_logged_with_where_to_report_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that comes once is worth no warning."""
    model, call = example_dit(), CORE["example DiT"].call
    fast = lenient(model)
    with monkeypatch.context() as patched:
        patched.setattr("duca_compile.runtime.dispatch.layout", fail)
        fast(**call(TIMES[0]))
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage().startswith("a step failed and ran as the plain graph")
    assert record.getMessage().endswith(REPORT)


def test_a_compiler_that_fails_on_outlined_blocks_gets_them_in_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def inner(gm: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        if any(node.target is torch_private.invoke_subgraph for node in gm.graph.nodes):
            raise Planted("a planted fault")
        return gm.forward

    monkeypatch.setattr(torch_private, "inner_compiler", lambda *given: inner)
    model = example_dit()
    call = CORE["example DiT"].call
    got = run(torch.compile(model, backend="duca", options={"method": "duca", "strict": True}), call)
    assert torch.equal(got[0], first(model(**call(TIMES[0]))))
    assert duca_compile.stats(model).steps == {Mode.FULL: 1, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 1}
    told = [each.getMessage() for each in caplog.records if "in the form that suits Inductor" in each.getMessage()]
    assert told
    assert all(REPORT in each for each in told)
