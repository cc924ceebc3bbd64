"""Sessions keep generations apart that nothing else tells apart."""

import contextlib

import pytest
import torch

import duca_compile
from duca_compile import Mode, session, sessions
from helpers import compiled, lenient
from test_trajectory import Generation
from zoo.case import calls
from zoo.core import example_dit
from zoo.own import CASES

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE


@pytest.fixture
def generation() -> Generation:
    model = example_dit()
    return Generation(model, compiled(model), torch.tensor([1, 2]))


def test_a_session_starts_over_at_a_lower_timestep(generation: Generation) -> None:
    with session():
        assert generation.modes([900.0, 800.0, 700.0]) == [F, C, A]
    with session():
        assert generation.modes([600.0, 500.0]) == [F, C]
    assert generation.modes([400.0, 300.0]) == [F, C]


def test_requests_over_the_same_tensors_interleave(generation: Generation) -> None:
    modes = []
    for t in (900.0, 800.0, 700.0):
        for request, ahead in (("a", 0.0), ("b", 50.0)):
            with session(request):
                modes.append(generation.mode(t - ahead))
    assert modes == [F, F, C, C, A, A]


def test_the_innermost_session_counts_and_an_exception_leaves_it(generation: Generation) -> None:
    with session("outer"):
        generation.modes([900.0, 800.0])
        with session("inner"):
            assert generation.mode(700.0) is F
        with contextlib.suppress(KeyError), session("inner"):
            raise KeyError
        assert generation.mode(700.0) is A
    assert sessions.current() is None


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
