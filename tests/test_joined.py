"""Pieces of one value that are treated alike become one treatment of the whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simplified import X, left
from zoo.case import noise


def gate(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def other(x: Tensor) -> Tensor:
    return x.amax(1, keepdim=True)


def halves(x: Tensor, at: int = 2) -> tuple[Tensor, Tensor]:
    return x[:, :at], x[:, at:]


def gated(x: Tensor) -> Tensor:
    """A residual addition with another gate for the first tokens than for the rest."""
    first, rest = halves(x)
    f, g = halves(x.sin())
    return torch.cat([first + f * gate(x), rest + g * other(x)], 1)


def modulated(x: Tensor) -> Tensor:
    first, rest = x.split([2, 4], 1)
    return torch.cat([first * (1 + gate(x)) + other(x), rest * (1 + other(x)) + gate(x)], 1)


@pytest.mark.parametrize("run", [gated, modulated])
def test_pieces_treated_alike_are_joined_first(run: Callable[[Tensor], Tensor]) -> None:
    ops = left(lambda x: run(x).cos(), X)
    assert not {"aten.slice", "aten.split", "aten.split_with_sizes", "getitem"} & set(ops)
    assert "aten.cat" in ops


def test_constants_stay_constants() -> None:
    assert left(lambda x: torch.cat([part * 2 for part in halves(x)], 1).cos(), X) == ["aten.mul", "aten.cos"]


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.cat([halves(x)[0] * gate(x), halves(x)[1] + gate(x)], 1),
        lambda x: torch.cat([halves(x)[0] + x.sin()[:, 4:], halves(x)[1] + x.cos()[:, :4]], 1),
        lambda x: torch.cat([halves(x)[0] * gate(x), halves(x)[1].double() * gate(x)], 1),
        lambda x: torch.cat([halves(x)[0] * 2, halves(x)[1] * 3], 1),
        lambda x: torch.cat([torch.add(halves(x)[0], gate(x), alpha=2), torch.add(halves(x)[1], gate(x))], 1),
        lambda x: torch.cat([halves(x)[0].sin(), halves(x)[1].sin()], 1),
        lambda x: torch.cat([halves(x)[1] * gate(x), halves(x)[0] * other(x)], 1),
        lambda x: torch.cat([halves(x)[0] * gate(x), halves(x)[0] * other(x), halves(x)[1] * other(x)], 1),
        lambda x: torch.cat([halves(x)[0] * gate(x), x[:, 3:] * other(x)], 1),
        lambda x: torch.cat([halves(x)[0] * gate(x).mean(0), halves(x)[1] * other(x)], 1),
        lambda x: torch.cat([x[:, :3] * gate(x), x[:, 3:] * other(x)], 0),
    ],
)
def test_pieces_treated_otherwise_stay(run: Callable[[Tensor], Tensor]) -> None:
    ops = left(lambda x: run(x).cos(), X)
    assert "aten.slice" in ops


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.cat([*halves(x)], 1),
        lambda x: torch.cat([part * 2 for part in halves(x)], 1),
    ],
)
def test_what_is_laid_out_otherwise_is_copied_as_the_cat_does(run: Callable[[Tensor], Tensor]) -> None:
    """What follows reads the memory of the `cat`, which the value as a whole does not share the layout of."""
    turned = noise(2, 4, 6).transpose(1, 2)
    ops = left(lambda x: torch.view_as_complex(run(x).view(2, 6, 2, 2)).abs(), turned)
    assert "aten.clone" in ops
    assert not {"aten.cat", "aten.slice"} & set(ops)


def test_pieces_that_hold_nothing_vanish() -> None:
    """The frames after the first, where there is one frame."""

    def run(x: Tensor) -> Tensor:
        first, rest = halves(x, 6)
        return torch.cat([first + gate(x) * first.sin(), rest + other(x) * rest.sin()], 1)

    assert not {"aten.cat", "aten.slice"} & set(left(lambda x: run(x).cos(), X))
    assert "aten.cat" not in left(lambda x: torch.cat([*halves(x), x[:, 6:] * gate(x)], 1).cos(), X)
    assert left(lambda x: torch.cat([x, x.new_empty(0)], 1).cos(), X) == ["aten.cos"]
    assert "aten.cat" in left(lambda x: torch.cat([x, x[:, 6:].double()], 1).cos(), X), "it decides the type"


def test_pieces_treated_alike_in_many_steps_are_joined() -> None:
    def run(x: Tensor) -> Tensor:
        parts = list(halves(x.sin()))
        for _ in range(40):
            parts = [part * part for part in parts]
        return torch.cat(parts, 1)

    assert left(lambda x: run(x).cos(), X) == ["aten.sin", *["aten.mul"] * 40, "aten.cos"]
