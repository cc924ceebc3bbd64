"""Every selector against DuCa and ToCa written out by hand over the example DiT, which chooses tokens by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

import duca_compile
from dit import Block, DiT, modulate
from duca_compile.graph import ir
from duca_compile.methods.check import OptionError
from duca_compile.methods.selectors import NAMES, RANDOM
from eager_methods import LABELS, embedded
from helpers import STEPS, captured, compiled, first, lenient, names, relative_error
from zoo.case import calls, noise, randomise
from zoo.core import CORE, FEW, example_dit

aten = torch.ops.aten


class EagerSelected:
    """Full and conservative steps; what the attention of a full step shows of its tokens is kept for its MLP."""

    def __init__(self, model: DiT, name: str, staleness: float, spatial: float, count: int, cycle: int) -> None:
        self.model, self.name, self.count = model, name.removesuffix("-min"), count
        self.sign = -1.0 if name.endswith("-min") else 1.0
        self.staleness, self.spatial, self.cycle = staleness, spatial, cycle
        self.attention: list[Tensor] = []
        self.mlp: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.waited: list[Tensor] = []
        self.chosen: list[tuple[int, ...]] = []

    def step(self, full: bool, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(self.model, x, t, y)
        if full:
            self.attention, self.mlp, self.scores, self.waited = [], [], [], []
        for at, block in enumerate(self.model.blocks):
            assert isinstance(block, Block)
            shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c)[:, None].chunk(6, dim=-1)
            if full:
                given = modulate(block.norm1(h), scale=scale1[:, 0], shift=shift1[:, 0])
                self.attention.append(block.attn(given))
                self.scores.append(self.of_attention(block, given))
                self.waited.append(torch.zeros(h.shape[1]))
            h = h + gate1 * self.attention[at]
            if full:
                self.mlp.append(block.mlp(modulate(block.norm2(h), scale=scale2[:, 0], shift=shift2[:, 0])))
            else:
                tokens = self.choose(at, h)
                own = modulate(block.norm2(h[:, tokens]), scale=scale2[:, 0], shift=shift2[:, 0])
                self.mlp[at] = self.mlp[at].clone()
                self.mlp[at][:, tokens] = block.mlp(own)
            h = h + gate2 * self.mlp[at]
        return self.model.unpatchify(self.model.final(h, c))

    def of_attention(self, block: Block, given: Tensor) -> Tensor:
        """What its map, its keys or its values say of each token, `[batch, tokens]`."""
        batch, tokens, width = given.shape
        heads = block.attn.heads
        q, k, v = block.attn.qkv(given).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if self.name == "attention":
            return (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1).mean(1).sum(1)
        return (k if self.name == "key-norm" else v).norm(dim=-1).mean(1)

    def choose(self, at: int, h: Tensor) -> Tensor:
        scores = self.scores[at]
        if self.name == "similarity":
            scores = torch.cosine_similarity(h, self.mlp[at], dim=-1)
        total = self.sign * torch.nn.functional.normalize(scores, dim=1).mean(0)
        total = total + self.staleness * self.waited[at] / self.cycle
        if self.spatial:
            side = round(len(total) ** 0.5)
            for row in range(0, side, 2):
                for column in range(0, side, 2):
                    cell = [r * side + k for r in (row, row + 1) for k in (column, column + 1)]
                    best = max(cell, key=lambda token: float(total[token]))
                    total[best] *= 1 + self.spatial
        tokens = total.topk(self.count).indices.sort().values
        self.waited[at] += 1
        self.waited[at][tokens] = 0
        self.chosen.append(tuple(tokens.tolist()))
        return tokens


@pytest.mark.parametrize("bonus", [{}, {"staleness": 0.25}, {"staleness": 0.1, "spatial": 0.8}], ids=str)
@pytest.mark.parametrize("name", [name for name in NAMES if name != RANDOM])
def test_fifty_steps_agree(name: str, bonus: dict[str, float]) -> None:
    model = example_dit()
    options: dict[str, Any] = {"method": "toca", "selector": name, "staleness": 0.0, "cache_ratio": 0.75, **bonus}
    fast = compiled(model, **options)
    slow = EagerSelected(model, name, bonus.get("staleness", 0.0), bonus.get("spatial", 0.0), 4, 5)
    x = noise(2, 1, 8, 8)
    for at, t in enumerate(STEPS):
        got = fast(x, torch.full((2,), t), LABELS)
        assert relative_error(got, slow.step(at % 5 == 0, x, torch.full((2,), t), LABELS)) < 1e-5, at
        x = x - 0.05 * got
    assert duca_compile.stats(model).steps == {"full": 10, "conservative": 40}
    assert len(set(slow.chosen)) > 5, "it does not always choose the same"
    if bonus.get("staleness"):
        assert {token for each in slow.chosen for token in each} == set(range(16)), "every token has its turn"


@pytest.mark.parametrize("name", names(CORE, FEW))
@pytest.mark.parametrize("selector", ["attention", "key-norm", "value-norm", "similarity"])
def test_core_models_run_or_refuse(name: str, selector: str) -> None:
    case = CORE[name]
    model = randomise(case.build())
    options: dict[str, Any] = {
        "method": "duca",
        "selector": selector,
        "staleness": 0.25,
        "cache_ratio": 0.7,
        "strict": True,
    }
    fast, plain = lenient(model, **options), torch.compile(model, backend="eager")
    if name == "hand-written" and selector != "similarity":
        with pytest.raises(duca_compile.Refused, match="take 'similarity' or 'random'"):
            fast(**case.call(900.0))
        return
    with duca_compile.session("one", steps=8):
        for step in range(8):
            given = case.call(900.0 - 70 * step)
            before = duca_compile.stats(model).steps["full"] if step else 0
            got = first(fast(**given))
            if duca_compile.stats(model).steps["full"] > before:
                assert relative_error(got, first(plain(**given))) <= (1e-5 if selector == "attention" else 0.0)
            assert got.isfinite().all()
    assert duca_compile.stats(model).steps["conservative"] == 3


def test_a_scored_attention_may_be_kept_in_a_smaller_type() -> None:
    """FLUX keeps the attention's own result, too."""
    case = CORE["FLUX"]
    model = randomise(case.build())
    fast = compiled(model, method="toca", cache_ratio=0.7, cache_dtype=torch.bfloat16)
    for given in calls(case.call, [900.0, 880.0]):
        assert first(fast(**given)).isfinite().all()
    assert duca_compile.stats(model).steps["conservative"] == 1


class Padded(torch.nn.Module):
    """Its tokens beyond the mask neither attend nor are attended to."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.leave = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.qkv, self.mlps = (torch.nn.ModuleList(torch.nn.Linear(8, out) for _ in range(2)) for out in (24, 8))

    def forward(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        phases = t[:, None] * torch.arange(1, 5) / 4
        clock = self.clock(torch.cat([phases.sin(), phases.cos()], -1))[:, None]
        for qkv, mlp in zip(self.qkv, self.mlps, strict=True):
            q, k, v = qkv(x * (1 + clock)).reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
            x = x + torch.nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).reshape(2, 6, 8)
            x = x + mlp(x * (1 + clock)).relu()
        return self.leave(x)


@pytest.mark.parametrize("added", [False, True])
def test_a_query_that_attends_to_nothing_is_no_nan(added: bool) -> None:
    model, known = Padded().eval(), torch.arange(6) < 4
    hidden = ~(known[:, None] & known).expand(2, 1, 6, 6)
    mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf) if added else ~hidden
    call = (noise(2, 6, 8), torch.full((2,), 500.0), mask)
    assert relative_error(compiled(model, method="toca", cache_ratio=0.5)(*call), model(*call)) < 1e-5


def test_the_map_of_an_attention_is_computed_once() -> None:
    """In full steps alone; their FLOPs are as before."""
    call = (noise(2, 1, 8, 8), torch.full((2,), 500.0), LABELS)
    (scored,), (drawn,) = (
        duca_compile.explain(example_dit(), *call, duca_options={"method": "duca", "selector": name}).graphs
        for name in ("attention", "random")
    )
    assert scored.flops == drawn.flops
    assert scored.full_step_bytes > drawn.full_step_bytes
    told = str(duca_compile.explain(example_dit(), *call, duca_options={"method": "duca", "selector": "attention"}))
    assert "writes out the attention" in " ".join(told.split())


def test_bonuses_are_for_scores() -> None:
    for wrong in ({"staleness": 0.25}, {"spatial": 0.5}, {"selector": "attention", "selection": "step"}):
        with pytest.raises(OptionError):
            duca_compile.Options.parse({"method": "duca", **wrong})


def test_a_grid_of_cells_is_needed_for_the_spatial_bonus() -> None:
    with pytest.raises(duca_compile.Refused, match="square of tokens"):
        compiled(example_dit(), method="toca", spatial=0.5, cell=3)(noise(2, 1, 8, 8), torch.full((2,), 500.0), LABELS)


def test_caches_of_scores_lie_in_memory_of_their_own() -> None:
    """Under a compiler that makes equal values once: how long tokens have waited is written to in place."""
    model = example_dit()
    options: dict[str, Any] = {
        "method": "toca",
        "cache_ratio": 0.75,
        "staleness": 0.5,
        "inner": "inductor",
        "outline": False,
    }
    fast, slow = compiled(model, **options), compiled(example_dit(), method="toca", cache_ratio=0.75, staleness=0.5)
    x = noise(2, 1, 8, 8)
    for t in STEPS[:6]:
        got = fast(x, torch.full((2,), t), LABELS)
        assert relative_error(got, slow(x, torch.full((2,), t), LABELS)) < 1e-4
        x = x - 0.05 * got


def test_steps_whose_rule_leaves_no_token_keep_the_scores_of_full_ones() -> None:
    """DiT's rule recomputes none in the first quarter: those steps compute no attention, and so no map of it."""
    steps = 20
    run = compiled(example_dit(), preset="toca-dit")
    with torch.no_grad(), duca_compile.session(steps=steps):
        for step in range(steps):
            run(noise(2, 1, 8, 8, seed=step), torch.full((2,), 1000.0 * (1 - step / steps)), LABELS)
    ran = duca_compile.stats(run).steps
    assert ran["conservative-2"] > 0
    assert ran["conservative-8"] > 0
    assert sum(ran.values()) == steps


def test_keys_are_measured_before_they_are_normalised() -> None:
    """Of joined streams each by itself, and where they are one: after the norm all are equally long."""
    case = CORE["FLUX"]
    found = captured(
        randomise(case.build()),
        options={"method": "duca", "selector": "key-norm", "cache_ratio": 0.5},
        **case.call(500.0),
    )
    nodes = {node.name: node for node in found.capture.gm.graph.nodes}
    step = found.plan.steps["conservative"]
    assert len(step.choices) == 7
    for at, choice in step.choices.items():
        (lengths,) = (
            node for node in ir.ancestors([nodes[choice.score]], stop=lambda node: ir.packet(node) is aten.linear)
            if ir.packet(node) is aten.linalg_vector_norm and len(ir.shape(node) or ()) == 3
        )  # fmt: skip
        above = ir.ancestors([lengths], stop=lambda node: ir.packet(node) is aten.linear)
        assert not any(ir.packet(node) is aten.rms_norm for node in above), at
        assert found.plan.branches[at].path.place.tokens in ir.shape(lengths)[1:], at  # type: ignore[union-attr, index]
