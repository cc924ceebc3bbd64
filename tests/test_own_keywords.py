"""Keywords that may be ours or the model's, and what is no model."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Options, explain, rewrite
from tiny import Tiny, tiny_call

FORA = {"method": "fora", "inner": "eager"}


class Named(Tiny):
    def forward(self, x: Tensor, t: Tensor, options: Any = None, steps: int = 1) -> Tensor:
        return super().forward(x, t) * (steps + (options is not None))


class Unnamed(Tiny):
    def forward(self, x: Tensor, t: Tensor, **kwargs: Any) -> Tensor:
        return super().forward(x, t)


def explained(model: nn.Module, **given: Any) -> Options:
    (graph,) = explain(model.eval(), *tiny_call(), **given).graphs
    assert graph.plan is not None
    return graph.plan.options


@pytest.mark.parametrize("model", [Tiny, Unnamed])
@pytest.mark.parametrize("name", ["options", "duca_options"])
def test_options_have_the_name_that_torch_gives_them(model: type[nn.Module], name: str) -> None:
    assert explained(model(), **{name: FORA}) == Options.parse(FORA)


def test_options_once() -> None:
    with pytest.raises(TypeError, match="not both"):
        explained(Tiny(), options=FORA, duca_options=FORA)


def test_options_of_the_model_are_handed_on() -> None:
    assert explained(Named(), options={"own": 1}, duca_options=FORA) == Options.parse(FORA)


def test_options_that_may_be_either_s_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"may be meant for duca or for Named.*duca_options"):
        explained(Named(), options=FORA)
    with pytest.raises(TypeError, match=r"may be meant for duca or for Named.*lambda"):
        rewrite(Named().eval(), *tiny_call(), options=FORA)


def test_steps_that_may_be_either_s_are_an_error() -> None:
    model = Named().eval()
    with pytest.raises(TypeError, match=r"may be meant for duca or for Named.*session\(steps=...\)"):
        explain(model, *tiny_call(), steps=9)
    with duca_compile.session(steps=9):
        assert len(explain(model, *tiny_call(), None, 3).verdict.sequence) == 9
    around: Any = lambda *args: model(*args, steps=3)  # noqa: E731
    assert len(explain(around, *tiny_call(), steps=9).verdict.sequence) == 9


@pytest.mark.parametrize("ask", [explain, rewrite])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (SimpleNamespace(components={"transformer": Tiny()}), "is a pipeline; give the model"),
        (Tiny, "give a module"),
        (None, "give a module"),
        (torch.zeros(2), "give a module"),
    ],
)
def test_what_is_no_model_is_an_error(ask: Any, given: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        ask(given, *tiny_call())
