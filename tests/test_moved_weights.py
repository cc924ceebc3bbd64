"""A quantised model can be moved after the backend has seen it: `Module.to` asks that no weak reference is left to it."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from helpers import Planted, lenient
from quantised import Int8, linears, quantised
from zoo.case import noise
from zoo.core import example_dit

COLLECT = gc.collect
X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])


@pytest.fixture(autouse=True)
def nothing_is_collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What lies in a cycle stays: that it can be moved must not hang on when Python, or Dynamo, collects."""
    gc.collect()
    gc.disable()
    monkeypatch.setattr(gc, "collect", lambda *args: 0)
    yield
    gc.enable()


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dit, self.first = example_dit(), nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x = x + 0.1 * self.first(x)
        torch._dynamo.graph_break()
        found: Tensor = self.dit(x, t, y)
        return found


def whole() -> nn.Module:
    return quantised(example_dit())


def split() -> nn.Module:
    return quantised(Split().eval())


def steps(fast: Any, first: int = 0) -> list[Tensor]:
    return [fast(X, T - 20 * step, Y) for step in range(first, first + 5)]


def moved(model: nn.Module) -> None:
    before = [layer.weight.data8 for layer in linears(model) if isinstance(layer.weight, Int8)]
    if isinstance(model, Split):
        COLLECT()  # torch refers to them itself in a cycle, where Dynamo begins anew behind a break
    model.to(torch.float64)
    model.to(torch.float32)
    after = [layer.weight.data8 for layer in linears(model) if isinstance(layer.weight, Int8)]
    assert len(before) == len(after) > 0


@pytest.mark.parametrize(("make", "inner"), [(whole, "eager"), (whole, "inductor"), (split, "eager")])
def test_between_steps(make: Callable[[], nn.Module], inner: str) -> None:
    model = make()
    fast = lenient(model, strict=True, inner=inner)
    steps(fast)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE]
    moved(model)
    got, want = steps(fast, 5), steps(model, 5)
    assert torch.allclose(got[0], want[0], atol=1e-5), "the step after it is full"
    assert duca_compile.stats(model).steps[Mode.AGGRESSIVE]
    moved(model)


def test_where_steps_fail_and_run_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise Planted("a planted fault")

    model = whole()
    fast = lenient(model, inner="inductor")
    monkeypatch.setattr("duca_compile.runtime.dispatch.Dispatcher._run", fail)
    with pytest.warns(duca_compile.DucaWarning, match="a planted fault"):
        steps(fast)
    moved(model)


def test_where_it_is_refused() -> None:
    model = whole()
    fast = lenient(model)
    with torch.enable_grad(), pytest.warns(duca_compile.DucaWarning, match="gradients are enabled"):
        fast(X, T, Y)
    moved(model)


def explained(model: nn.Module) -> Any:
    return duca_compile.explain(model, X, T, Y)


def rewritten(model: nn.Module) -> Any:
    return duca_compile.rewrite(model, X, T, Y)


@pytest.mark.parametrize("ask", [explained, rewritten])
def test_after_it_was_studied(ask: Callable[[nn.Module], Any]) -> None:
    model = whole()
    kept = ask(model)
    moved(model)
    assert kept is not None


def test_after_a_split_model_was_explained() -> None:
    model = split()
    kept = explained(model)
    moved(model)
    assert len(kept.graphs) == 2
