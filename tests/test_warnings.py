"""Our warnings, under Python's own filter: one for each model, at the line that calls it."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from duca_compile import DucaWarning
from helpers import lenient, ours
from zoo.case import noise
from zoo.core import example_dit

X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])


@pytest.fixture
def shown() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield caught


def of_duca(shown: list[warnings.WarningMessage]) -> list[warnings.WarningMessage]:
    return [each for each in shown if issubclass(each.category, DucaWarning)]


@torch.enable_grad()
def call(fast: Any, batch: int = 2) -> Any:
    return fast(X[:batch], T[:batch], Y[:batch])


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="duca", options={"inner": "eager"})
    return model


def two_models() -> list[nn.Module]:
    """Of the same blocks, but each compiled by itself: Dynamo takes what it has for models of one class."""
    one, other = example_dit(), example_dit()
    other.__class__ = type("Another", (type(one),), {})
    return [one, other]


@pytest.mark.parametrize("compiled", [lenient, in_place])
def test_each_model_has_its_own(compiled: Any, shown: list[warnings.WarningMessage]) -> None:
    for model in two_models():
        call(compiled(model))
    assert ["gradients are enabled" in message for message in ours(shown)] == [True, True]
    assert {each.filename for each in of_duca(shown)} == {__file__}
    assert {each.lineno for each in of_duca(shown)} == {call.__wrapped__.__code__.co_firstlineno + 2}  # type: ignore


def test_a_model_that_is_compiled_for_several_sizes_has_one(shown: list[warnings.WarningMessage]) -> None:
    fast = lenient(example_dit(), dynamic=False)
    for batch in (2, 1, 2):
        call(fast, batch)
    assert len(ours(shown)) == 1


def test_a_warning_between_steps_is_shown_where_the_model_is_called(
    shown: list[warnings.WarningMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise ValueError("a planted fault")

    monkeypatch.setattr("duca_compile.runtime.dispatch.Dispatcher._run", fail)
    for model in two_models():
        fast = lenient(model)
        with torch.no_grad():
            for step in range(3):
                fast(X, T - 20 * step, Y)
    assert len(ours(shown)) == 2
    assert {each.filename for each in of_duca(shown)} == {__file__}


def test_a_filter_by_the_users_module_counts(shown: list[warnings.WarningMessage]) -> None:
    warnings.filterwarnings("ignore", category=DucaWarning, module=__name__)
    call(lenient(example_dit()))
    assert ours(shown) == []


def test_one_made_an_error_is_raised_at_each_call_that_it_keeps_from_caching() -> None:
    fast = lenient(example_dit())
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        for _ in range(2):
            with pytest.raises(Exception, match="gradients are enabled"):
                call(fast)


def test_one_of_no_call_is_given_from_where_we_are_asked(shown: list[warnings.WarningMessage]) -> None:
    from duca_compile import refusal

    for _ in range(2):
        with refusal.warnings_after():
            refusal.warn("something")
    assert ours(shown) == ["something", "something"]
    assert {each.filename for each in of_duca(shown)} == {__file__}
