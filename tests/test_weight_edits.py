"""Weights that change in the middle of a generation, as a user changes them: the next step is computed."""

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import Mode
from helpers import compiled, third_step
from zoo.case import noise
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


@pytest.mark.parametrize("how", [counted, all_of_it, moved])
def test_weights_that_change_at_every_step_are_told_of(how: Callable[[Tensor], None]) -> None:
    model, x = example_dit(), noise(2, 1, 8, 8)
    fast, labels = compiled(model), torch.tensor([1, 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(8):
            x = x - 0.02 * fast(x, torch.full((2,), 900.0 - 20 * step), labels)
            how(model.get_parameter("blocks.0.mlp.0.weight"))
    told = [str(each.message) for each in caught if isinstance(each.message, duca_compile.DucaWarning)]
    assert ["the weights are written to, or lie elsewhere, at every step" in each for each in told] == [True]
    stats = duca_compile.stats(model)
    assert stats.steps["full"] == 8
    assert stats.generations == 1, "it started over, and is the same"


def test_where_weights_change_now_and_then_a_generation_is_cached_as_before() -> None:
    model, x = example_dit(), noise(2, 1, 8, 8)
    fast, labels = compiled(model, cycle=4), torch.tensor([1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", duca_compile.DucaWarning)
        for step in range(24):
            x = x - 0.02 * fast(x, torch.full((2,), 960.0 - 40 * step), labels)
            if step in (7, 19):
                counted(model.get_parameter("blocks.0.mlp.0.weight"))
    assert duca_compile.stats(model).steps["full"] == 6, "near its end, too, where steps are long beside what is left"
