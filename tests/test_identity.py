"""Tensors are known again as long as they are the same objects, where they were and as they were."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from duca_compile.identity import Identity, Probes, state


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
    held, deaths = tensors(), []
    known = Identity(state(held))
    known.watch(deaths.append)
    assert known.is_of(state(held))
    assert not deaths
    held.pop()
    assert len(deaths) == 1
