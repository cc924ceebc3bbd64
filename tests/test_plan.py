"""What the plan decides, and where it refuses."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from duca_compile import DucaWarning, Mode, Options, Refused, explain, stats
from duca_compile.analysis.analyse import analyse
from duca_compile.analysis.blocks import find_blocks
from duca_compile.analysis.token_paths import Liveness, path_at
from duca_compile.analysis.token_rules import Place
from duca_compile.methods.duca import DuCa
from duca_compile.methods.ratios import exact
from duca_compile.passes import rewrite
from duca_compile.plan.plan import fresh_tokens, make_plan
from helpers import captured, compiled, frontier, lenient, refreshed, relative_error
from tiny import Tiny, tiny_call
from zoo.case import noise, randomise
from zoo.core import example_dit

CALL = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("tokens", "cache_ratio", "fresh"),
    [(256, 0.9, 25), (200, 0.9, 20), (10, 0.7, 3), (196, 0.9, 19), (16, 0.95, 0), (16, 0.0, 16), (16, 1.0, 0)],
)
def test_the_number_of_recomputed_tokens(tokens: int, cache_ratio: float, fresh: int) -> None:
    assert fresh_tokens(tokens, 1 - exact(cache_ratio)) == fresh


def test_each_mode_acts_as_the_paper_says() -> None:
    plan = captured(example_dit(), *CALL, options={"cache_ratio": 0.5}).plan
    assert [plan.steps[Mode.CONSERVATIVE].told(branch) for branch in range(2)] == ["reuse", "8/16 tokens"]
    assert {plan.steps[Mode.FULL].told(branch) for branch in range(4)} == {"compute"}
    assert {plan.steps[Mode.AGGRESSIVE].told(branch) for branch in range(4)} == {"skip"}


def test_one_selection_for_a_step_is_one_input() -> None:
    def inputs(**options: object) -> list[str]:
        plan = captured(example_dit(), *CALL, options={"cache_ratio": 0.5, **options}).plan
        return list(plan.steps[Mode.CONSERVATIVE].signature.draws)

    assert inputs() == ["selected_for_branch_1", "selected_for_branch_3"]
    assert inputs(selection="step") == ["selected_from_branch_1"]


def test_all_but_last_keeps_the_last_block() -> None:
    plan = captured(example_dit(), *CALL, options={"aggressive_depth": "all-but-last"}).plan
    assert [plan.steps[Mode.AGGRESSIVE].told(branch) for branch in range(4)] == ["skip"] * 2 + ["compute"] * 2
    assert frontier(plan) == (plan.branches[1].sum,)


def test_all_but_last_of_one_block_is_refused() -> None:
    found = captured(Tiny().eval(), *tiny_call())
    with pytest.raises(Refused, match="has too few"):
        make_plan(found.capture.gm.graph, found.facts, Options(DuCa(aggressive_depth="all-but-last")), True)


def test_a_result_from_inside_a_branch_cannot_be_cut() -> None:
    class Leaks(Tiny):
        def forward(self, x: Tensor, t: Tensor) -> Any:
            gate = self.clock(t[:, None].sin())[:, None]
            hidden = self.mlp(x)
            return self.leave(x + gate * hidden.relu()), hidden

    found = captured(Leaks().eval(), *tiny_call(), options={"order": "conservative"})
    with pytest.raises(Refused, match="the result reads linear_1, inside a branch"):
        make_plan(found.capture.gm.graph, found.facts, Options(DuCa()))


class Decoupled(nn.Module):
    """An encoder, and a decoder that the encoder's tokens modulate, as they do the final layer (DDT)."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.enter = nn.Linear(1, 4), nn.Linear(2, 4)
        self.encoder = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.decoder = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.modulation = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.leave = nn.Linear(4, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate, seen = self.clock(t[:, None].sin())[:, None], self.enter(x)
        y = self.enter(x.flip(1))
        for layer in self.encoder:
            seen = seen + gate * layer(seen.cumsum(1)).relu()
        shared = nn.functional.silu(seen + gate)
        for layer, modulation in zip(self.decoder, self.modulation, strict=False):
            y = y + modulation(shared) * layer(y.cumsum(1)).relu()
        return self.leave(y * self.modulation[2](shared))


def test_a_value_that_modulation_and_result_share_is_computed_anew() -> None:
    x, times = noise(1, 10, 2), [torch.full((1,), t) for t in (0.5, 0.49, 0.48)]
    model = randomise(Decoupled())
    found = captured(model, x, times[0])
    assert set(frontier(found.plan)) == {found.facts.streams[0].sums[-1], found.facts.streams[1].sums[-1]}
    rewritten, _ = rewrite(found.capture.gm, found.plan.steps[Mode.AGGRESSIVE])
    assert sum(node.target is torch.ops.aten.silu.default for node in rewritten.graph.nodes) == 1
    with torch.no_grad():
        fast = compiled(model, order="aggressive")
        full = fast(x, times[0])
        assert torch.equal(full, model(x, times[0]))
        again = fast(x, times[0] * 0.999)
    assert relative_error(again, full) < 0.01


class Leaks(Tiny):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        gate = self.clock(t[:, None].sin())[:, None]
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.mlp(x)
        return self.leave(x + gate * hidden.relu()), hidden


def test_what_cannot_be_cut_is_cached_by_conservative_steps_alone(caplog: pytest.LogCaptureFixture) -> None:
    model, (x, _) = Leaks().eval(), tiny_call()
    with torch.no_grad():
        fast = compiled(model)
        for t in (0.5, 0.49, 0.48):
            fast(x, torch.full((1,), t))
    assert stats(model).steps == {Mode.FULL: 1, Mode.CONSERVATIVE: 2}
    (told,) = [record.getMessage() for record in caplog.records if "no step cuts" in record.getMessage()]
    assert told.endswith("no step can skip the blocks: the result reads linear_2, inside a branch")
    assert told in " ".join(str(explain(model, x, torch.full((1,), 0.5), duca_options={"method": "duca"})).split())


def test_aggressive_steps_alone_that_cannot_be_cut_are_refused() -> None:
    with pytest.warns(DucaWarning, match="no step can skip the blocks"):
        lenient(Leaks().eval(), order="aggressive")(*tiny_call())


@pytest.mark.parametrize(
    ("fingerprints", "blocks"),
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
def test_blocks_are_periods(fingerprints: str, blocks: list[str]) -> None:
    found = find_blocks([ord(letter) for letter in fingerprints])
    assert ["".join(fingerprints[index] for index in block) for block in found] == blocks


class Deep(Tiny):
    """An MLP with 500 pointwise ops in a row."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.mlp(x)
        for _ in range(500):
            hidden = hidden.tanh()
        return self.leave(x + gate * hidden)


def test_a_body_of_hundreds_of_ops_runs() -> None:
    fast = compiled(Deep().eval(), order="conservative", cache_ratio=0.5)
    with torch.no_grad():
        for t in (0.9, 0.85, 0.8):
            x, when = tiny_call(t)
            assert fast(x, when).isfinite().all()
    assert stats(fast).steps[Mode.CONSERVATIVE] == 2


def test_a_body_of_thousands_of_ops_is_planned() -> None:
    found = captured(Tiny().eval(), *tiny_call())
    graph = found.capture.gm.graph
    (hidden,) = graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    (reader,) = hidden.users
    last = hidden
    with graph.inserting_before(reader):
        for _ in range(2000):
            last = _like(graph, torch.ops.aten.tanh.default, last)
    reader.replace_input_with(hidden, last)
    plan = make_plan(graph, analyse(found.capture), Options(DuCa(cache_ratio=0.5)))
    path = plan.branches[1].path
    assert path is not None
    assert len(path.compute) == 2002
    assert refreshed(plan) == (1,)


def _like(graph: fx.Graph, target: Any, first: fx.Node, *others: fx.Node) -> fx.Node:
    """A call that makes values of the form of its first operand."""
    node = graph.call_function(target, (first, *others))
    node.meta["val"] = first.meta["val"]
    return node


@pytest.mark.parametrize("ways", ["squares", "sums"])
def test_a_path_is_searched_in_linear_time(ways: str) -> None:
    """Each node once, however often it is read: `x = x * x`, done n times, has 2 ** n ways to its start."""
    graph = fx.Graph()
    nodes = [graph.placeholder("stream")]
    nodes[0].meta["val"] = torch.rand(1, 4, 2)
    while len(nodes) <= 10_000:
        other = nodes[-1] if ways == "squares" else nodes[len(nodes) // 2]
        nodes.append(_like(graph, torch.ops.aten.mul.Tensor, nodes[-1], other))
    live = Liveness(frozenset(nodes[:1]), frozenset(), frozenset(nodes), frozenset())
    began = time.process_time()
    path = path_at(nodes[-1], Place(1, 4), live)
    assert not isinstance(path, str)
    assert path.live == (("stream", Place(1, 4)),)
    assert time.process_time() - began < 15
