"""Tensors are known again as long as they are the same objects, where they were and as they were."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from duca_compile.generations.identity import WORDS, Identity, Probes, state


def tensors(inference: bool = False) -> list[Tensor]:
    with torch.inference_mode(inference):
        uncounted = torch.ones(64)
    return [torch.ones(64), uncounted]


def written(held: list[Tensor]) -> None:
    held[0].add_(1)


def moved(held: list[Tensor]) -> None:
    held[0].data = held[0].clone()


def written_unseen(held: list[Tensor]) -> None:
    held[0].data.add_(1)


def replaced(held: list[Tensor]) -> None:
    held[0] = held[0].detach()


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("change", [written, moved, written_unseen, replaced])
def test_a_change_is_seen(change: Callable[[list[Tensor]], None], inference: bool) -> None:
    held, probes = tensors(inference), Probes()
    before = state(held, probes)
    known, key = Identity(before), before.key
    assert known.is_of(state(held, probes))
    assert state(held, probes).key == key
    change(held)
    assert not known.is_of(state(held, probes))
    assert state(held, probes).key != key


def test_writes_that_nobody_counts_change_what_is_probed() -> None:
    held = tensors(inference=True)
    known = Identity(state(held))
    with torch.inference_mode():
        held[1].add_(1)
    assert state(held).versions == [0, None]
    assert not known.is_of(state(held))


def test_whoever_watches_learns_of_the_first_death() -> None:
    held, deaths = tensors(), list[object]()
    known = Identity(state(held))
    known.watch(deaths.append)
    assert known.is_of(state(held))
    assert not deaths
    held.pop()
    assert len(deaths) == 1


def q_rows(weight: Tensor) -> None:
    weight.data[: len(weight) // 3] += 1


def every_third_column(weight: Tensor) -> None:
    weight.data[:, ::3] += 1


def first_element(weight: Tensor) -> None:
    weight.data[0, 0] += 1


def tiny_average(weight: Tensor) -> None:
    weight.data.lerp_(torch.randn_like(weight), 1e-4)


def negated(weight: Tensor) -> None:
    weight.data.neg_()


def rows_in_turn(weight: Tensor) -> None:
    weight.data.copy_(weight.data.roll(1, 0))


def narrow(weight: Tensor) -> Tensor:
    """In memory that it shares with others."""
    return torch.zeros(len(weight), 3 * weight.shape[1], dtype=weight.dtype).narrow(1, 5, weight.shape[1]).copy_(weight)


LAYOUTS = {
    "contiguous": lambda weight: weight,
    "transposed": lambda weight: weight.t().contiguous().t(),
    "a part of a larger one": narrow,
    "at an odd address": lambda weight: torch.cat([weight.new_zeros(1), weight.flatten()])[1:].view(weight.shape),
}
EDITS = [q_rows, every_third_column, first_element, tiny_average, negated, rows_in_turn]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_a_large_weight_is_seen_at_once(
    edit: Callable[[Tensor], None], dtype: torch.dtype, layout: str
) -> None:
    weight = LAYOUTS[layout](torch.randn(768, 256, dtype=dtype))
    held, probes = [torch.randn(256), weight], Probes()
    known = Identity(state(held, probes))
    assert known.is_of(state(held, probes))
    edit(weight)
    assert not known.is_of(state(held, probes))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_run_of_elements_is_seen_where_it_covers_two_probes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40_000), label="elements")
    weight, probes = torch.zeros(count, dtype=data.draw(st.sampled_from([torch.float16, torch.float64]))), Probes()
    before = state([weight], probes)
    run = min(count, 2 * -(-count // (WORDS // 4)))
    start = data.draw(st.integers(0, count - run), label="start")
    weight.data[start : start + run] += 1
    assert state([weight], probes) != before


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_element_of_small_tensors_is_seen(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 200), min_size=1, max_size=4), label="sizes")
    dtype = data.draw(st.sampled_from([torch.int8, torch.bfloat16, torch.float32, torch.complex128]), label="dtype")
    memory = torch.zeros(sum(sizes) + 1, dtype=dtype)[1:]
    held, probes = list(memory.split(sizes)), Probes()
    before = state(held, probes)
    at = data.draw(st.integers(0, sum(sizes) - 1), label="changed")
    memory.data[at : at + 1] += 1
    assert state(held, probes) != before


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_tensors_that_nobody_can_read_are_known_by_the_rest() -> None:
    with FakeTensorMode():
        fake = torch.ones(64)
    held = [torch.ones(64), fake, torch.ones(64, device="meta"), torch.ones(0), torch.eye(3).to_sparse()]
    known = Identity(state(held, probes := Probes()))
    assert known.is_of(state(held, probes))
    held[0].data.add_(1)
    assert not known.is_of(state(held, probes))


def test_the_words_of_a_few_sets_of_tensors_are_remembered() -> None:
    probes, kept = Probes(), [[torch.ones(1000)] for _ in range(40)]
    for held in kept:
        state(held, probes)
    assert len(probes._known) == 16
