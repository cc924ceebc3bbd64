"""What the plan decides, and where it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from duca_compile import Mode, Options, Refused
from duca_compile.blocks import find_blocks
from duca_compile.plan import fresh_tokens, make_plan
from helpers import captured
from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import example_dit

CALL = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("tokens", "cache_ratio", "fresh"),
    [(256, 0.9, 25), (200, 0.9, 20), (10, 0.7, 3), (196, 0.9, 19), (16, 0.95, 0), (16, 0.0, 16), (16, 1.0, 0)],
)
def test_the_number_of_recomputed_tokens(tokens: int, cache_ratio: float, fresh: int) -> None:
    assert fresh_tokens(tokens, cache_ratio) == fresh


def test_each_mode_acts_as_the_paper_says() -> None:
    plan = captured(example_dit(), *CALL, options={"cache_ratio": 0.5}).plan
    assert [plan.action(branch, Mode.CONSERVATIVE) for branch in range(2)] == ["reuse", "8/16 tokens"]
    assert {plan.action(branch, Mode.FULL) for branch in range(6)} == {"compute"}
    assert {plan.action(branch, Mode.AGGRESSIVE) for branch in range(6)} == {"skip"}


def test_one_selection_for_a_step_is_one_input() -> None:
    def inputs(**options: object) -> list[str]:
        plan = captured(example_dit(), *CALL, options={"cache_ratio": 0.5, **options}).plan
        return [name for name in plan.extra_inputs(Mode.CONSERVATIVE) if name not in plan.caches]

    assert inputs() == ["selected_for_branch_1", "selected_for_branch_3", "selected_for_branch_5"]
    assert inputs(selection="step") == ["selected_from_branch_1"]


def test_all_but_last_keeps_the_last_block() -> None:
    plan = captured(example_dit(), *CALL, options={"aggressive_depth": "all-but-last"}).plan
    assert [plan.action(branch, Mode.AGGRESSIVE) for branch in range(6)] == ["skip"] * 4 + ["compute"] * 2
    assert plan.frontier == (plan.branches[3].sum,)


def test_all_but_last_of_one_block_is_refused() -> None:
    found = captured(Tiny().eval(), *tiny_call())
    with pytest.raises(Refused, match="needs at least two blocks"):
        make_plan(found.capture.gm.graph, found.facts, Options(aggressive_depth="all-but-last"))


def test_a_result_from_inside_a_branch_cannot_be_cut() -> None:
    class Leaks(Tiny):
        def forward(self, x: Tensor, t: Tensor) -> Any:
            gate = self.clock(t[:, None].sin())[:, None]
            hidden = self.mlp(x)
            return self.leave(x + gate * hidden.relu()), hidden

    found = captured(Leaks().eval(), *tiny_call(), options={"order": "conservative"})
    with pytest.raises(Refused, match="the result reads linear_1, inside a branch"):
        make_plan(found.capture.gm.graph, found.facts, Options())


@pytest.mark.parametrize(
    ("signatures", "blocks"),
    [
        ("ababab", ["ab", "ab", "ab"]),
        ("aaa", ["a", "a", "a"]),
        ("abcdabcdab", ["abcd", "abcd", "ab"]),
        ("abcdabcdeee", ["abcd", "abcd", "e", "e", "e"]),
        ("xyababab", ["xy", "ab", "ab", "ab"]),
        ("ab", ["ab"]),
        ("", []),
    ],
)
def test_blocks_are_periods(signatures: str, blocks: list[str]) -> None:
    found = find_blocks([ord(letter) for letter in signatures])
    assert ["".join(signatures[index] for index in block) for block in found] == blocks
