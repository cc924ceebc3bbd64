"""Methods that leave out blocks or attentions, by a clock or by what they see of a step, against each written out by hand, step by step."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import duca_compile
from dit import Block, modulate
from duca_compile.methods.check import OptionError
from duca_compile.passes import rewrite
from eager_methods import EagerStack, embedded, taylor
from eager_parts import LABELS, EagerAttention, EagerDelta, HeldModules
from helpers import captured, compiled, first, lenient, names, relative_error
from tiny import TinyParts, tiny_call
from zoo.case import noise, randomise
from zoo.core import CORE, FEW, example_dit

STEPS = 30
CALL = (noise(2, 1, 8, 8), torch.full((2,), 500.0), LABELS)
REAR, FRONT, ALL = range(1, 2), range(1), range(2)


def agree(
    options: dict[str, Any], oracle: Callable[[int, Tensor, Tensor, Tensor], Tensor], model: torch.nn.Module
) -> dict[str, int]:
    """Over a counted generation; how many steps ran by each recipe."""
    fast, x = compiled(model, **options), noise(2, 1, 8, 8)
    with duca_compile.session("one", steps=STEPS):
        for step in range(STEPS):
            t = torch.full((2,), 990.0 - 32 * step)
            got = fast(x, t, LABELS)
            assert relative_error(got, oracle(step, x, t, LABELS)) < 1e-5, step
            x = x - 0.05 * got
    return dict(duca_compile.stats(model).steps)


def test_delta_dit() -> None:
    model = example_dit()
    slow = EagerDelta(model)

    def oracle(step: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if step % 3 == 0:
            return slow.full([REAR, FRONT], x, t, y)
        return slow.step(REAR if step < 0.4 * STEPS else FRONT, x, t, y)

    steps = agree({"method": "delta-dit", "cycle": 3, "rear_share": 0.4}, oracle, model)
    assert steps == {"full": 10, "without-rear": 8, "without-front": 12}


def test_magcache() -> None:
    ratios = [1.0, *(1 - 0.03 * math.sin(step) ** 2 for step in range(1, STEPS))]
    model = example_dit()
    slow, sums, full_steps = EagerDelta(model), [1.0, 0.0, 0.0], []

    def oracle(step: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        product, strayed, count = sums
        if step >= 0.2 * STEPS:
            product *= ratios[step]
            strayed, count = strayed + abs(1 - product), count + 1
        if step < 0.2 * STEPS or strayed >= 0.1 or count > 5:
            sums[:] = [1.0, 0.0, 0.0]
            full_steps.append(step)
            return slow.full([ALL], x, t, y)
        sums[:] = [product, strayed, count]
        return slow.step(ALL, x, t, y)

    steps = agree({"method": "magcache", "ratios": ratios, "threshold": 0.1}, oracle, model)
    assert steps["full"] == len(full_steps) < 0.7 * STEPS
    gaps = {after - before for before, after in itertools.pairwise(full_steps)}
    assert len(gaps) > 2, "the ratios place them"


def test_magcache_needs_its_ratios() -> None:
    with pytest.raises(OptionError, match="needs `ratios`"):
        duca_compile.Options.parse({"method": "magcache"})


def relative_change(now: Tensor, before: Tensor) -> float:
    return float((now - before).abs().mean() / before.abs().mean())


def test_teacache() -> None:
    """The first and the last step are full."""
    model = example_dit()
    slow, moved, inputs, full_steps = EagerDelta(model), [0.0], list[Tensor](), list[int]()

    def oracle(step: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(model, x, t, y)
        block = model.blocks[0]
        assert isinstance(block, Block)
        shift, scale = block.modulation(c).chunk(6, dim=-1)[:2]
        inputs.append(modulate(block.norm1(h), shift, scale))
        if step:
            far = relative_change(inputs[-1], inputs[-2])
            moved[0] += 0.5 * far**2 + 2 * far - 0.001
        if step not in (0, STEPS - 1) and moved[0] < 4:
            return slow.step(ALL, x, t, y)
        moved[0] = 0.0
        full_steps.append(step)
        return slow.full([ALL], x, t, y)

    options = {"method": "teacache", "threshold": 4, "polynomial": (0.5, 2.0, -0.001)}
    steps = agree(options, oracle, model)
    assert steps["full"] == len(full_steps) < 0.6 * STEPS
    assert len({after - before for before, after in itertools.pairwise(full_steps)}) > 1, "the data places them"


def test_first_block() -> None:
    model = example_dit()
    slow, kept, full_steps = EagerDelta(model), list[Tensor](), list[int]()

    def oracle(step: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(model, x, t, y)
        change = model.blocks[0](h, c) - h
        if kept and relative_change(change, kept[-1]) < 1.1 and step > 1:
            return slow.step(REAR, x, t, y)
        kept.append(change)
        full_steps.append(step)
        return slow.full([REAR], x, t, y)

    steps = agree({"method": "first-block", "threshold": 1.1, "warmup_steps": 2}, oracle, model)
    assert steps["full"] == len(full_steps) < 0.6 * STEPS
    assert len({after - before for before, after in itertools.pairwise(full_steps)}) > 1, "the data places them"


def test_what_the_probe_has_computed_is_not_computed_again() -> None:
    model = example_dit()
    (graph,) = duca_compile.explain(model, *CALL, duca_options={"method": "first-block"}).graphs
    (other,) = duca_compile.explain(model, *CALL, duca_options={"method": "forecast-stack"}).graphs
    assert graph.flops["full"] == other.flops["full"]
    assert graph.plan is not None
    (step,) = (step for name, step in graph.plan.steps.items() if name != "full")
    gm, _ = rewrite(captured(model, *CALL, options={"method": "first-block"}).capture.gm, step)
    assert not gm.graph.find_nodes(op="call_function", target=torch.ops.aten.scaled_dot_product_attention.default)


def test_a_probe_needs_one_graph_of_fixed_sizes() -> None:
    fast = lenient(example_dit(), dynamic=True, method="teacache")
    with pytest.warns(duca_compile.DucaWarning, match="fixed sizes"):
        fast(*CALL)


def test_pab_keeps_what_an_attention_adds_with_its_gate() -> None:
    model = example_dit()
    slow = EagerAttention(model)

    def oracle(step: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return slow.step(0.1 < step / STEPS < 0.8 and step % 3 > 0, x, t, y)

    options = {"method": "pab", "spatial": 3, "window": (0.1, 0.8)}
    steps = agree(options, oracle, model)
    assert steps["reuse-spatial"] == sum(0.1 < step / STEPS < 0.8 and step % 3 > 0 for step in range(STEPS))
    assert steps["full"] + steps["reuse-spatial"] == STEPS, "it has no attention of another kind"


class Relayed(TinyParts):
    """Two blocks whose MLP also reads what the attention gives, before its gate; `held`: what attentions are to add."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(2, 2)
        self.held: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        held, self.added = list(self.held), []
        for _ in range(2):
            given = self.query(x)
            feature = self.mix(functional.scaled_dot_product_attention(given, given, x).mT).mT
            self.added.append(held.pop(0) if held else gate * feature)
            x = x + self.added[-1]
            x = x + gate * self.mlp(x + feature.tanh()).relu()
        return self.leave(x)


def test_pab_leaves_an_attention_whose_feature_another_branch_reads() -> None:
    """What it adds is reused, and what the other branch reads is of the step at hand."""
    torch.manual_seed(0)
    model, (x, _) = Relayed().eval(), tiny_call()
    slow, kept = copy.deepcopy(model), list[Tensor]()
    fast = compiled(model, method="pab", spatial=3, window=(0.0, 1.0))
    with torch.no_grad(), duca_compile.session(steps=10):
        for step in range(10):
            slow.held = kept if step % 3 else []
            t = torch.full((1,), 0.9 - step / 20)
            want = slow(x, t)
            kept = slow.added
            assert relative_error(fast(x, t), want) < 1e-6, step
            x = x - 0.05 * want
    assert duca_compile.stats(model).steps["reuse-spatial"] == 6


def test_the_stack_forecast_from_its_embedding() -> None:
    """What is forecast is how far the blocks move the stream."""
    model = example_dit()

    class Anchored(EagerStack):
        def step(self, ahead: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            h, c = embedded(self.model, x, t, y)
            start = h
            if not ahead:
                for block in self.model.blocks:
                    h = block(h, c)
                self.values.insert(0, h - start)
            return self.model.unpatchify(self.model.final(start + self.forecast(self.values, ahead), c))

    slow = Anchored(model, taylor(1, 5))
    steps = agree(
        {"method": "forecast-stack", "anchored": True},
        lambda step, x, t, y: slow.step(step % 5, x, t, y),
        model,
    )
    assert steps == {"full": 6, "forecast": 24}


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({"method": "pab", "spatial": 1, "cross": 4, "window": (0.1, 0.9)},
         lambda step: {"attn2"} if 3 < step < 27 and step % 4 else set()),
        ({"method": "t-gate", "gate_step": 12, "self_interval": 4, "warmup_steps": 3, "late_interval": 2},
         lambda step: ({"attn1"} if step >= 3 and step % 4 else set()) if step < 12
         else {"attn2"} | ({"attn1"} if step % 2 else set())),
    ],
    ids=["pab", "t-gate"],
)  # fmt: skip
def test_kinds_of_attention_of_pixart(options: dict[str, Any], held: Callable[[int], set[str]]) -> None:
    case = CORE["PixArt"]
    model = randomise(case.build())
    slow = copy.deepcopy(model)
    holding, fast = HeldModules(slow, ["attn1", "attn2"]), compiled(model, **options)
    given = case.call(990.0)
    with duca_compile.session("one", steps=STEPS):
        for step in range(STEPS):
            given["timestep"] = torch.full((2,), 990 - 32 * step)
            holding.held = held(step)
            got = first(fast(**given))
            assert relative_error(got, first(slow(**given))) < 1e-5, step
            given["hidden_states"] = given["hidden_states"] - 0.05 * got[:, :4]
    steps = duca_compile.stats(model).steps
    assert sum(count for name, count in steps.items() if name != "full") == sum(
        bool(held(step)) for step in range(STEPS)
    )


@pytest.mark.parametrize("name", names(CORE, FEW))
@pytest.mark.parametrize("options", [
    {"method": "delta-dit"}, {"method": "magcache", "ratios": [1.0] * 12, "retention": 0.0},
    {"method": "pab", "window": (0.0, 1.0)}, {"method": "t-gate", "gate_step": 4},
    {"method": "forecast-stack", "anchored": True}, {"method": "teacache", "threshold": 50.0},
    {"method": "first-block", "threshold": 50.0},
], ids=lambda options: options["method"])  # fmt: skip
def test_core_models_run_by_every_recipe(name: str, options: dict[str, Any]) -> None:
    """Full steps are those of the model, bit for bit."""
    case = CORE[name]
    model = randomise(case.build())
    fast, plain = lenient(model, strict=True, **options), torch.compile(model, backend="eager")
    with duca_compile.session("one", steps=12):
        for step in range(12):
            given = case.call(900.0 - 70 * step)
            before = duca_compile.stats(model).steps.get("full", 0)
            got = first(fast(**given))
            assert got.isfinite().all()
            if duca_compile.stats(model).steps["full"] > before:
                assert torch.equal(got, first(plain(**given)))
    steps = duca_compile.stats(model).steps
    assert sum(steps.values()) == 12
    assert steps["full"] < 12
