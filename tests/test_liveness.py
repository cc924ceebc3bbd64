"""What the results of a graph take at once, on graphs small enough to count by hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

import duca_compile
from duca_compile.cost.peak_memory import peak_bytes
from zoo.case import noise
from zoo.core import example_dit

ROW = 4 * 8
"""Bytes of one row of the inputs."""
X, WEIGHT = torch.randn(4, 8), torch.randn(8, 8)
CALL = (noise(2, 1, 8, 8), torch.full((2,), 500.0), torch.tensor([1, 2]))
STREAM = 2 * 16 * 32 * 4
"""Bytes of the example DiT's stream in this call."""


def peak(function: Callable[..., Any], *args: torch.Tensor) -> float:
    """In rows."""
    return peak_bytes(make_fx(function, tracing_mode="fake")(*args).graph) / ROW


def test_inputs_do_not_count() -> None:
    assert peak(lambda x, weight: x @ weight, X, WEIGHT) == 4


def test_an_operand_lives_until_the_product_is_there() -> None:
    assert peak(lambda x, weight: x @ weight @ weight, X, WEIGHT) == 4 + 4


def test_a_pointwise_op_writes_over_what_is_read_last() -> None:
    assert peak(lambda x, weight: (x @ weight).relu() + 1, X, WEIGHT) == 4


def test_but_not_over_an_input_nor_what_is_read_later() -> None:
    assert peak(lambda x: x + 1, X) == 4
    assert peak(lambda x, weight: (y := x @ weight) * y.relu(), X, WEIGHT) == 4 + 4


def test_a_view_keeps_what_it_views_and_takes_nothing() -> None:
    def chunked(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, second = (x @ weight).chunk(2)
        return first @ weight, second @ weight

    assert peak(lambda x, weight: (x @ weight).t(), X, WEIGHT) == 4
    assert peak(chunked, X, WEIGHT) == 4 + 2 + 2


def test_what_is_returned_lives_to_the_end() -> None:
    assert peak(lambda x, weight: (kept := x @ weight, (kept @ weight) @ weight), X, WEIGHT) == 3 * 4


def test_results_that_nobody_reads_are_gone_at_once() -> None:
    assert peak(lambda x, weight: (torch.topk(x @ weight, 2)[0] @ x[:2], x @ weight)[1], X, WEIGHT) < 3 * 4


def test_a_full_step_holds_its_caches_beside_what_a_plain_one_takes() -> None:
    """At the last block's hidden layer all features are there but one, and that one is what the plain step holds too."""
    (graph,) = duca_compile.explain(example_dit(), *CALL, duca_options={"method": "duca"}).graphs
    assert graph.full_step_bytes - graph.plain_step_bytes == graph.held_bytes - 2 * STREAM


def test_of_smaller_caches_the_values_do_not_live_to_the_end() -> None:
    """At the last block's hidden layer three of the features are there in a byte instead of four."""
    reports = [
        duca_compile.explain(example_dit(), *CALL, duca_options={"method": "duca", "cache_dtype": dtype}).graphs[0]
        for dtype in (None, torch.float8_e4m3fn)
    ]
    usual, small = (report.full_step_bytes for report in reports)
    assert usual - small == 3 * STREAM * 3 / 4
