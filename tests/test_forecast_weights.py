"""How a forecast weighs the values of the last full steps."""

import pytest

from duca_compile.methods.check import OptionError
from duca_compile.methods.expansion import taylor
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer


@pytest.mark.parametrize(("order", "power"), [(0, 0), (1, 1), (2, 1)])
def test_a_line_is_gone_on_with(order: int, power: int) -> None:
    """A constant is forecast by all orders, a line by the first and above, wherever the full steps lie."""
    weights = TaylorSeer(order=order).weights([12, 7, 4], 15)
    assert len(weights) == order + 1
    assert sum(weights) == pytest.approx(1)
    if order == 1:
        assert sum(weight * node**power for weight, node in zip(weights, [12, 7], strict=True)) == pytest.approx(15)


def test_where_less_is_known_the_order_is_lower() -> None:
    assert TaylorSeer(order=2).weights([0], 3) == (1.0,)
    assert TaylorSeer(order=2).weights([5, 0], 8) == TaylorSeer(order=1).weights([5, 0], 8)


def test_a_forecast_reaches_no_further_than_the_last_two_full_steps_lie_apart() -> None:
    near = TaylorSeer().weights([10, 9], 11)
    assert near == (2.0, -1.0)
    assert TaylorSeer().weights([10, 9], 15) == near
    assert TaylorSeer().weights([10, 4], 15) == pytest.approx((1 + 5 / 6, -5 / 6))


def test_the_published_formula() -> None:
    """Equation 5 of arXiv 2503.06923, at full steps five apart."""
    k, n = 3, 5
    assert taylor([10, 5, 0], 13) == pytest.approx(
        (1 + k / n + k**2 / (2 * n**2), -k / n - 2 * k**2 / (2 * n**2), k**2 / (2 * n**2))
    )


def test_a_slope_below_1_falls_short() -> None:
    whole, half = TaylorSeer().weights([10, 4], 13), TaylorSeer(slope=0.5).weights([10, 4], 13)
    assert whole == pytest.approx((1.5, -0.5))
    assert half == pytest.approx((1.25, -0.25))
    with pytest.raises(OptionError, match="slope must be a number of at least 0, not -1"):
        TaylorSeer(slope=-1)


def test_without_cuts_all_is_forecast_as_the_stack_was() -> None:
    found = ForecastStack(
        cycle=4, warmup_steps=2, schedule="adaptive", tolerance=0.2, order=2, slope=0.9
    ).without_cuts()
    assert found == TaylorSeer(cycle=4, warmup_steps=2, schedule="adaptive", tolerance=0.2, order=2, slope=0.9)
    assert ForecastStack(order=0).without_cuts() == TaylorSeer(order=0)
