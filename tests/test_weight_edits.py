"""Weights that change in the middle of a generation, as a user changes them: the next step is computed."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from duca_compile import Mode
from helpers import compiled, third_step
from zoo.core import example_dit


def one_element(weight: Tensor) -> None:
    weight.data[0, 0] += 3.0


def rows_of_a_fused_projection(weight: Tensor) -> None:
    third = len(weight) // 3
    weight.data[:third] += 1.0
    weight.data[2 * third :] += 1.0


def by_numpy(weight: Tensor) -> None:
    weight.detach().numpy()[0] += 3.0


def one_row(weight: Tensor) -> None:
    weight.data[5] = 5.0


def all_of_it(weight: Tensor) -> None:
    weight.data.copy_(torch.randn(weight.shape))


def multiplied_with_others(weight: Tensor) -> None:
    torch._foreach_mul_([weight.data], 1.5)


def a_moving_average(weight: Tensor) -> None:
    weight.data.lerp_(torch.randn_like(weight), 1e-4)


def counted(weight: Tensor) -> None:
    weight.mul_(1.5)


def counted_in_a_view(weight: Tensor) -> None:
    weight.view(-1)[:16].copy_(torch.ones(16)) if weight.is_contiguous() else weight[0].fill_(1)


def storage(weight: Tensor) -> None:
    weight.untyped_storage().copy_(torch.randn(weight.numel()).to(weight.dtype).untyped_storage())


def moved(weight: Tensor) -> None:
    weight.data = torch.randn(weight.shape, dtype=weight.dtype).as_strided(weight.shape, weight.stride())


IN_PLACE = [
    one_element,
    rows_of_a_fused_projection,
    by_numpy,
    one_row,
    all_of_it,
    multiplied_with_others,
    a_moving_average,
    storage,
    counted,
    counted_in_a_view,
    moved,
]


def as_it_is(weight: Tensor) -> Tensor:
    return weight


def transposed(weight: Tensor) -> Tensor:
    return weight.t().contiguous().t()


def of_inference_mode(weight: Tensor) -> Tensor:
    with torch.inference_mode():
        return weight.clone()


@pytest.mark.parametrize("made", [as_it_is, transposed, of_inference_mode])
def test_the_step_after_an_edit_is_full(made: Callable[[Tensor], Tensor]) -> None:
    model = example_dit()
    weights = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for module in weights:
        module.weight = nn.Parameter(made(module.weight), requires_grad=False)
    fast = compiled(model)
    assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
    for edit in IN_PLACE:
        with torch.inference_mode() if made is of_inference_mode else torch.no_grad():
            found = third_step(model, fast, partial(edit, weights[3].weight))
        assert found == Mode.FULL, edit.__name__


def test_a_weight_replaced_by_another_parameter_is_seen() -> None:
    model = example_dit()
    fast = compiled(model)

    def replace() -> None:
        linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
        linear.weight = nn.Parameter(linear.weight * 2)

    assert third_step(model, fast, lambda: None) == Mode.AGGRESSIVE
    assert third_step(model, fast, replace) == Mode.FULL
