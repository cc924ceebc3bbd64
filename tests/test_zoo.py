"""The unchanged backend on every entry of the zoo: it finds what is there, and cached steps are right."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import duca_compile
from duca_compile import Mode
from fresh_caches import check_fresh_caches
from helpers import Captured, lenient
from zoo.broken import CASES as BROKEN
from zoo.case import calls, generation
from zoo.core import CORE
from zoo.every import ZOO
from zoo.own import CASES as OWN
from zoo.own_more import CASES as OWN_MORE
from zoo.survey import survey

OTHERS = [name for name in ZOO if name not in CORE]
SPLIT = [name for name, case in ZOO.items() if case.graphs > 1]
TRIED = {*OWN, *OWN_MORE, *BROKEN, "HunyuanVideo-1.5", "LTX", "OmniGen", "PRX", "Sana", "Stable Audio"}
"""By default: the models written here, and of `diffusers` one of each kind, beside the core models."""
SLOW = {"HiDream", "HiDream without experts"}


def marks(name: str) -> pytest.MarkDecorator | tuple[()]:
    return () if name in TRIED - SLOW else pytest.mark.slow


TIMES = [900.0, 880.0, 860.0, 840.0, 820.0]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(name)) for name in OTHERS],
)
def test_what_is_there_is_found_and_cached_steps_are_right(name: str) -> None:
    case = ZOO[name]
    found = survey(case.model(), case.call(500.0))
    if case.refusal:
        assert any(case.refusal in reason for reason in found.refusals)
        assert not found.accelerated
        return
    counts, want = (found.branches, found.recomputed, found.blocks), (case.branches, case.recomputed, case.blocks)
    assert counts != want if case.partly else counts == want
    assert found.accelerated
    assert (found.graphs > 1) == (case.graphs > 1)
    for captured, plan, args in found.accelerated:
        check_fresh_caches(Captured(captured, plan.facts, plan), args)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(name) if name in SPLIT else pytest.mark.slow) for name in OTHERS],
)
def test_full_steps_are_exact_and_every_mode_runs(name: str) -> None:
    case = ZOO[name]
    model = case.model()
    fast = lenient(model, cycle=3)
    exact = []
    steps_of_it = calls(case.call, TIMES)
    with generation(steps_of_it):
        for call in steps_of_it:
            got, want = tensors(fast(**call)), tensors(model(**call))
            exact.append(all(map(torch.equal, got, want)))
            assert [(each.shape, each.isfinite().all().item()) for each in got] == [(each.shape, True) for each in want]
    steps = duca_compile.stats(model).steps
    if case.refusal:
        assert all(exact)
    else:
        assert steps[Mode.FULL] >= 1
        assert steps[Mode.CONSERVATIVE] >= 1
        assert sum(exact) >= steps[Mode.FULL]


def tensors(results: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]
