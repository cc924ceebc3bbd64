"""What vanishes before the analyses look, and what must not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simplified import X, left

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("run", "ops"),
    [
        (lambda x: (x * 1 + 0).sin(), ["aten.sin"]),
        (lambda x: x.clone().expand(2, 6, 4).view(2, 6, 4).sin(), ["aten.sin"]),
        (lambda x: torch.nn.functional.dropout(x, 0.5, training=False).sin(), ["aten.sin"]),
        (lambda x: torch.cat(x.split([2, 4], 1), 1).sin(), ["aten.sin"]),
        (lambda x: torch.cat(x.chunk(3, 1), 1).sin(), ["aten.sin"]),
        (lambda x: torch.cat([x[:, :2], x[:, 2:]], 1).sin(), ["aten.sin"]),
        (lambda x: aten.type_as(x, x.cos()).sin(), ["aten.sin"]),
        (lambda x: aten.div(x, 1.0).sin(), ["aten.sin"]),
    ],
)
def test_what_changes_nothing_vanishes(run: Callable[[Tensor], Tensor], ops: list[str]) -> None:
    assert left(run, X) == ops


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1).sin(),
        lambda x: torch.cat([x[:, :2], x[:, 3:]], 1).sin(),
        lambda x: torch.cat([x[:, :3], x[:, 3:]], 0).sin(),
        lambda x: torch.cat([x[:, :2], x[:, 2:4]], 1).sin(),
    ],
)
def test_pieces_that_are_not_the_whole_stay(run: Callable[[Tensor], Tensor]) -> None:
    assert "aten.cat" in left(run, X)


def test_a_cast_to_another_type_stays() -> None:
    assert left(lambda x: x.double().sin(), X) == ["aten.to", "aten.sin"]


def test_a_returned_copy_stays_a_copy() -> None:
    assert "aten.clone" in left(lambda x: (x.clone(), x.sin()), X)
    assert "aten.clone" in left(lambda x: (x.clone().view(12, 4), x.sin()), X)


def test_a_copy_to_another_layout_stays() -> None:
    turned = X.transpose(1, 2)
    ops = left(lambda x: torch.view_as_complex(x.clone(memory_format=torch.contiguous_format).view(2, 4, 3, 2)), turned)
    assert ops == ["aten.clone", "aten.reshape", "aten.view_as_complex"]


def test_a_choice_between_two_sums_of_one_value_is_one_sum() -> None:
    def run(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + x.sin(), x.cos() + x).tanh()

    assert left(run, X) == ["aten.gt", "aten.sin", "aten.cos", "aten.where", "aten.add", "aten.tanh"]


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.where(x > 0, x + x.sin(), x.cos() + x.tan()),
        lambda x: torch.where(x > 0, x + x.sin(), x.sin().mean(1, keepdim=True) + x),
        lambda x: torch.where(x > 0, torch.add(x, x.sin(), alpha=2), x + x.cos()),
        lambda x: torch.where(x > 0, x + x.sin(), (x + x.cos()).double()),
        lambda x: torch.where(x > 0, x + x.sin(), x + 1),
        lambda x: torch.where(x > 0, x + x.sin(), 0.0),
    ],
)
def test_choices_between_other_things_stay(run: Callable[[Tensor], Tensor]) -> None:
    ops = left(lambda x: run(x).tanh(), X)
    assert ops.index("aten.where") > max(at for at, op in enumerate(ops) if op == "aten.add")
