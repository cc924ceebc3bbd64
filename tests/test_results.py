"""A caller may do with a result what it likes: no later step notices, and a cached step lays it out as a full one."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

import duca_compile
from duca_compile.generations.own_results import Form, delivered, layout, memory, owned
from helpers import compiled
from tiny import Tiny, tiny_call


class Bare(Tiny):
    """No op after the last block: `end` is given stream and feature, and gives the results."""

    def __init__(self, end: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor, t: Tensor) -> Any:
        gate = self.clock(t[:, None].sin())[:, None]
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        feature = self.mlp(x).relu()
        return self.end(x + gate * feature, feature)


ENDS = {
    "stream": lambda x, feature: (x,),
    "view of the stream": lambda x, feature: (x.transpose(1, 2), x[:, :, None].expand(1, 10, 3, 2)),
    "stream and feature": lambda x, feature: (x, feature.view(10, 2)),
    "one of them twice": lambda x, feature: (feature, x, feature.unflatten(1, (5, 2))),
}
WAYS = [(end, "conservative") for end in ENDS]
WAYS += [(end, order) for end in ("stream", "view of the stream") for order in ("conservative-first", "aggressive")]


@pytest.mark.parametrize(("end", "order"), WAYS)
def test_writing_to_a_result_changes_no_later_step(end: str, order: str) -> None:
    torch.manual_seed(0)
    model = Bare(ENDS[end]).eval()
    x, _ = tiny_call()

    def steps(spoil: bool) -> list[list[Tensor]]:
        torch.compiler.reset()
        fast = compiled(model, order=order, cache_ratio=0.5)
        found = []
        for t in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
            results = fast(x, torch.full((1,), t))
            found.append([result.clone() for result in results])
            if spoil:
                for result in results:
                    result.untyped_storage().fill_(255)
        return found

    with torch.no_grad():
        want, have = steps(spoil=False), steps(spoil=True)
    assert all(torch.equal(a, b) for a, b in zip(chain(*want), chain(*have), strict=True))


@pytest.mark.parametrize(("end", "order"), WAYS)
def test_a_later_step_changes_no_result(end: str, order: str) -> None:
    fast = compiled(Bare(ENDS[end]).eval(), order=order, cache_ratio=0.5)
    x, _ = tiny_call()
    with torch.no_grad():
        held = [fast(x, torch.full((1,), t)) for t in (0.9, 0.8)]
        then = [[result.clone() for result in results] for results in held]
        for t in (0.7, 0.6, 0.5, 0.4):
            fast(x, torch.full((1,), t))
    assert all(torch.equal(a, b) for a, b in zip(chain(*held), chain(*then), strict=True))


@pytest.mark.parametrize("end", ENDS)
def test_results_are_laid_out_as_those_of_the_model(end: str) -> None:
    model = Bare(ENDS[end]).eval()
    fast, (x, t) = compiled(model, order="conservative"), tiny_call()
    with torch.no_grad():
        want = layout(model(x, t))
        assert [layout(fast(x, t - step / 100)) for step in range(5)] == [want] * 5


def test_what_is_its_own_is_handed_on() -> None:
    own, kept = torch.randn(3, 4), torch.randn(3, 4)
    results = [own, kept.t(), own.t(), 7]
    found = delivered(results, layout(results), memory([kept]))
    assert found[0] is own
    assert found[2] is results[2]
    assert found[3] == 7
    assert torch.equal(found[1], kept.t())
    assert found[1].stride() == kept.t().stride()
    assert not memory([found[1]]) & memory([kept])


def test_another_layout_is_mended() -> None:
    (found,) = delivered([torch.arange(6.0).view(2, 3)], [[Form(0, (1, 2), 0)]], frozenset())
    assert found.stride() == (1, 2)
    assert torch.equal(found, torch.arange(6.0).view(2, 3))


SHARED = {
    **ENDS,
    "a part and a part of it": lambda x, feature: (x[:, 2:], x[:, 5:]),
    "halves": lambda x, feature: x.chunk(2, 1),
    "rows and columns": lambda x, feature: (x[:, 0], x.flatten(1), x[..., 1]),
}


@pytest.mark.parametrize("end", SHARED)
@pytest.mark.parametrize("options", [{"order": "aggressive"}, {"order": "conservative"}, {"method": "forecast-stack"}])
def test_results_share_memory_as_those_of_the_model(end: str, options: dict[str, Any]) -> None:
    if "feature" in end or "twice" in end:
        options = {"order": "conservative"}  # a feature is no result of a step that runs no block
    model, (x, t) = Bare(SHARED[end]).eval(), tiny_call()
    fast = compiled(model, **options)
    with torch.no_grad():
        want = _shared(model(x, t))
        assert [_shared(fast(x, t - step / 100)) for step in range(5)] == [want] * 5
    assert duca_compile.stats(fast).steps["full"] == 1


def _shared(results: Sequence[Tensor]) -> list[tuple[int, int]]:
    """The first result in whose memory each lies, and how far from it."""
    found = {
        form.place: (first.place, form.offset - first.offset)
        for first, *more in layout(results)
        for form in (first, *more)
    }
    return [found[place] for place in range(len(results))]


def test_a_copy_for_the_caller_keeps_what_results_share_with_each_other_and_with_the_call() -> None:
    own, given = torch.randn(3, 4), torch.randn(3, 4)
    results = [own[1:, ::2], given.t(), own, own[:, :1, None].expand(3, 1, 5)]
    found = owned([*results, 7], [given])
    assert found[1] is results[1]
    assert layout(found) == layout([*results, 7])
    assert all(torch.equal(a, b) for a, b in zip(found[:4], results, strict=True))
    assert memory(found[:4]) == memory([found[0], given])
    assert not memory([found[0]]) & memory([own])


def test_views_of_different_types_are_copied_apart() -> None:
    kept = torch.randn(3, 4)
    results = [kept, torch.view_as_complex(kept.unflatten(1, (2, 2)))]
    found = delivered(results, layout(results), memory([kept]))
    assert all(torch.equal(a, b) for a, b in zip(found, results, strict=True))
    assert not memory(found) & memory([kept])
