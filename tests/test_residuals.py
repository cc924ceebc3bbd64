"""What is a branch and what only looks like one, structure by structure."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from duca_compile.analysis.facts import Facts
from duca_compile.graph import ir
from duca_compile.graph.op_sets import CONVOLUTIONS
from duca_compile.methods.duca import Mode
from duca_compile.passes import rewrite
from helpers import captured
from tiny import Tiny, tiny_call


class Shaped(nn.Module):
    """A model around one body, so that a test shows nothing but the structure it is about."""

    def __init__(self, body: Callable[["Shaped", Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.clock = nn.Linear(1, 8)
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.body(self, x, self.clock(t[:, None].sin())[:, None])


def facts(body: Callable[[Shaped, Tensor, Tensor], Tensor]) -> Facts:
    return captured(Shaped(body).eval(), torch.randn(2, 6, 8), torch.full((2,), 0.5)).facts


def gelu(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x)


@pytest.mark.parametrize(
    ("body", "branches"),
    [
        pytest.param(lambda m, x, g: x + m.a(m.norm(x)), 1, id="no gate"),
        pytest.param(lambda m, x, g: m.a(x) * g.tanh() + x, 1, id="tanh gate, operands swapped"),
        pytest.param(lambda m, x, g: x + (1 - g) * m.a(x), 1, id="one minus gate"),
        pytest.param(lambda m, x, g: x + g * (0.5 * m.a(x)), 1, id="gate and scale"),
        pytest.param(lambda m, x, g: torch.addcmul(x, g, m.a(x)), 1, id="addcmul"),
        pytest.param(lambda m, x, g: x - g * m.a(x), 1, id="taken away"),
        pytest.param(lambda m, x, g: x - g * m.a(x) - m.b(x), 2, id="two bodies taken away"),
        pytest.param(lambda m, x, g: (x.double() + (g * m.a(x)).double()).float(), 1, id="an island of higher precision"),
        pytest.param(lambda m, x, g: (x + g * m.a(x)).clamp(-9, 9) + m.b(x), 2, id="two bodies, a clamp between the sums"),
        pytest.param(lambda m, x, g: x + g * m.a(x) + m.b(x) + m.c(x), 3, id="three bodies side by side"),
        pytest.param(lambda m, x, g: m.norm(x + m.a(x)) + m.b(m.norm(x + m.a(x))), 2, id="post-norm"),
        pytest.param(lambda m, x, g: x + g * m.b(m.norm(x + g * m.a(x))), 2, id="the inner sum never enters the stream"),
        pytest.param(lambda m, x, g: x + g * (m.a(x) + m.b(x)), 1, id="two parallel bodies under one gate"),
    ],
)  # fmt: skip
def test_branches(body: Callable[[Shaped, Tensor, Tensor], Tensor], branches: int) -> None:
    found = facts(lambda m, x, g: m.d(body(m, m.c(x), g)))
    assert len(found.branches) == branches


def test_the_feature_is_what_the_gate_multiplies() -> None:
    (branch,) = facts(lambda m, x, g: m.d(x + (1 - g.tanh()) * (m.a(x) * 0.5))).branches
    assert branch.feature.startswith("linear")
    assert len(branch.gates) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda m, x, g: x + g, id="a modulation"),
        pytest.param(lambda m, x, g: x + torch.arange(6.0)[None, :, None], id="a position embedding"),
        pytest.param(lambda m, x, g: x * g.cos() + x.flip(-1) * g.sin(), id="a rotary embedding"),
        pytest.param(lambda m, x, g: m.a(x) + m.c(m.b(x)), id="a LoRA"),
        pytest.param(lambda m, x, g: m.a(x) - x, id="a stream taken away from a body"),
        pytest.param(lambda m, x, g: x + x.mean(1, keepdim=True).expand(2, 6, 8), id="no matrix product"),
    ],
)
def test_additions_that_are_no_branches(body: Callable[[Shaped, Tensor, Tensor], Tensor]) -> None:
    """One true branch beside, so that the graph itself is not refused."""
    found = facts(lambda m, x, g: m.d(body(m, x + m.d(gelu(x)), g)))
    assert len(found.branches) == 1


def test_a_long_skip_is_refused_with_its_reason() -> None:
    def body(m: Shaped, x: Tensor, g: Tensor) -> Tensor:
        first = x + m.a(x)
        second = first + m.b(first)
        third = second + m.c(second)
        return m.d(third + first)

    found = facts(body)
    assert len(found.branches) == 3
    assert [reason for _, reason in found.refusals] == ["adds two values of a stream: a long skip, not a branch"]


def test_a_projected_long_skip_is_refused_with_its_reason() -> None:
    def body(m: Shaped, x: Tensor, g: Tensor) -> Tensor:
        first = x + m.a(x)
        second = first + m.b(first)
        third = second + m.c(second)
        return m.d(first + m.a(third))

    found = facts(body)
    assert len(found.branches) == 3
    assert [reason for _, reason in found.refusals] == ["a long skip over 2 branches, not a branch"]


def test_a_skip_around_all_blocks_is_no_branch() -> None:
    def body(m: Shaped, x: Tensor, g: Tensor) -> Tensor:
        inside = m.b(x)
        for _ in range(3):
            inside = inside + g * gelu(m.a(inside))
        return x + m.c(inside)

    found = facts(body)
    assert [(branch.skip, branch.stream) for branch in found.branches[1:]] == [("add", 0), ("add_1", 0)]
    assert [reason for _, reason in found.refusals] == ["a skip around 3 branches, not a branch"]


def test_a_mask_between_branches_leaves_one_stream() -> None:
    def body(m: Shaped, x: Tensor, g: Tensor) -> Tensor:
        mask = (g > 0).float()
        for _ in range(3):
            x = (x + g * gelu(m.a(x))) * mask
        return m.d(x)

    assert [branch.stream for branch in facts(body).branches] == [0, 0, 0]


def test_an_addition_within_a_body_is_no_branch() -> None:
    def body(m: Shaped, x: Tensor, g: Tensor) -> Tensor:
        for _ in range(3):
            hidden = m.a(x)
            x = x + g * m.c(hidden + gelu(m.b(hidden)))
        return m.d(x)

    found = facts(body)
    assert len(found.branches) == 3
    assert [reason for _, reason in found.refusals] == [f"inside the branch {each.sum}" for each in found.branches]


def test_a_body_that_mixes_says_where() -> None:
    mixing, tokenwise = captured(Tiny().eval(), *tiny_call()).facts.branches
    assert mixing.refusal == "linear mixes tokens on every path"
    assert tokenwise.refusal is None


class Convolved(nn.Module):
    """An image goes through convolutions of its own, with skips around them, into tokens and out of them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.before, self.after, self.last = (nn.Conv2d(size, size, 3, padding=1) for size in (8, 8, 4))
        self.clock, self.mix, self.up, self.down = (
            nn.Linear(1, 8),
            nn.Linear(16, 16),
            nn.Linear(8, 16),
            nn.Linear(16, 8),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        image = self.enter(x)
        image = image + self.before(gelu(image))
        y = image.flatten(2).transpose(1, 2)
        for _ in range(2):
            y = y + gate * self.mix(y.transpose(1, 2)).transpose(1, 2)
            y = y + gate * self.down(gelu(self.up(y)))
        out = y.transpose(1, 2).reshape(image.shape)
        out = self.leave(out + self.after(gelu(out)))
        return x + out + self.last(out)


def test_convolutions_before_and_after_the_blocks_are_computed_at_every_step() -> None:
    found = captured(Convolved().eval(), torch.randn(2, 4, 4, 4), torch.full((2,), 0.5))
    assert len(found.facts.streams) == 1
    assert [branch.kind for branch in found.facts.branches] == ["mixing", "MLP"] * 2
    reasons = {reason for _, reason in found.facts.refusals}
    assert reasons >= {"a convolution before or after the blocks, computed at every step"}
    for mode in (Mode.CONSERVATIVE, Mode.AGGRESSIVE):
        graph = rewrite(found.capture.gm, found.plan.steps[mode])[0].graph
        kernels = [node.args[1] for node in graph.nodes if ir.packet(node) in CONVOLUTIONS]
        assert len(set(kernels)) == {Mode.CONSERVATIVE: 5, Mode.AGGRESSIVE: 3}[mode], (
            "what leads into the blocks is not read"
        )


def test_blocks_of_convolutions_alone_are_blocks() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clock, self.enter, self.leave = nn.Linear(1, 8), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)
            self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            gate = self.clock(t[:, None].sin())[:, :, None, None]
            y = self.enter(x)
            for block in self.blocks:
                y = y + gate * block(gelu(y))
            return self.leave(y)

    found = captured(Blocks().eval(), torch.randn(2, 4, 4, 4), torch.full((2,), 0.5))
    assert len(found.facts.branches) == 3
