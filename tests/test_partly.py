"""Who cannot get twice as fast, whatever the schedule, is told so: once, and with what to do."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from duca_compile import Mode, explain, stats
from duca_compile.methods.duca import DuCa
from duca_compile.plan.options import Options
from duca_compile.runtime.partly import warn_partly
from helpers import lenient, ours
from tiny import Tiny, tiny_call


class Headed(Tiny):
    """Most of its work comes after the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = nn.Sequential(nn.Linear(2, 100), nn.Linear(100, 2))


def told(model: nn.Module, *calls: tuple[Tensor, Tensor], **options: Any) -> list[str]:
    fast = lenient(model, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            fast(*call)
    return ours(caught)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_whole_graph_of_which_most_runs_in_every_mode(dynamic: bool) -> None:
    model, (x, t) = Headed().eval(), tiny_call()
    (graph,) = explain(model, x, t, duca_options={"method": "duca"}).graphs
    share = graph.flops[Mode.AGGRESSIVE] / graph.flops[Mode.FULL]
    assert 0.5 < share < 0.95
    more = x.repeat(3, 1, 1), t.repeat(3)
    (warning,) = told(model, (x.repeat(2, 1, 1), t.repeat(2)), more, dynamic=dynamic)
    assert f"only partly: {share:.0%} of the FLOPs of a full step run in every recipe" in warning
    assert f"no schedule makes it more than {1 / share:.1f}x as fast" in warning
    assert "duca_compile.explain(model, ...) lists" in warning


def test_none_where_most_is_cached_or_nothing_is_to_be() -> None:
    assert told(Tiny().eval(), tiny_call()) == []
    assert told(Headed().eval(), tiny_call(), cycle=1) == []


@pytest.mark.parametrize("asked_for", [{"order": "conservative", "cache_ratio": 0.2}, {"cycle": 2, "cache_ratio": 0.2}])
def test_none_where_the_options_leave_most_to_compute(asked_for: dict[str, Any]) -> None:
    assert told(Tiny().eval(), tiny_call(), **asked_for) == []


def test_half_is_enough_and_each_is_told_once() -> None:
    who = torch.nn.Identity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_partly(who, {Mode.FULL: 100, Mode.CONSERVATIVE: 80, Mode.AGGRESSIVE: 50}, Options(DuCa()), "")
        warn_partly(who, {Mode.FULL: 0, Mode.CONSERVATIVE: 0}, Options(DuCa()), "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            warn_partly(who, {Mode.FULL: 100, Mode.CONSERVATIVE: 80, Mode.AGGRESSIVE: 51}, Options(DuCa()), "Do this.")
    (warning,) = [str(each.message) for each in caught]
    assert "51% of the FLOPs of a full step run in every recipe" in warning
    assert warning.endswith("Do this.")


@pytest.mark.parametrize("stage", ["operations", "count"])
def test_a_fault_in_counting_harms_nothing(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("a planted fault")

    monkeypatch.setattr(f"duca_compile.cost.flops.{stage}", fail)
    model, (x, t) = Headed().eval(), tiny_call()
    assert told(model, (x, t), (x, t - 0.01)) == []
    assert stats(model).steps[Mode.CONSERVATIVE] == 1
