"""How a forecast weighs the values of the last full steps."""

import pytest

from duca_compile.methods.expansion import taylor
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
