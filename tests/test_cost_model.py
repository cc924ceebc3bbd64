"""The formulas say what the counter counts, at sizes they have not seen; the calibration finds the rates it was given."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from dit import DiT
from duca_compile import Mode, Options, Refused, cost_model, explain
from duca_compile.cost.step_cost import Cost
from duca_compile.cost_model.calibration import Calibration
from duca_compile.cost_model.count_family import sample
from duca_compile.cost_model.model import STEPS, CostModel, N, NotPolynomial, R, steps_per_mode
from duca_compile.methods.duca import DuCa
from zoo.core import flux_call

ORDERS = ("conservative-first", "aggressive-first", "conservative", "aggressive")


def dit(tokens: int = 16, width: int = 16, depth: int = 1, batch: int = 2) -> Any:
    side = 2 * math.isqrt(tokens)
    with torch.device("meta"):
        model = DiT(size=side, width=width, depth=depth, heads=2).eval()
        labels = torch.zeros(batch, dtype=torch.int64)
        return model, (torch.zeros(batch, 1, side, side), torch.full((batch,), 900.0), labels), {}


def flux(tokens: int) -> Any:
    """6 tokens of text beside those of the image, and a block over both joined: three groups that draw tokens."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=20, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model.eval(), (), flux_call(900.0, side=math.isqrt(tokens))


@pytest.fixture(scope="module")
def of_dit() -> CostModel:
    return cost_model.fit(dit, {"tokens": (4, 16, 36, 64), "width": (16, 32, 48, 80), "depth": (1, 2, 3)})


@pytest.fixture(scope="module")
def of_batches() -> CostModel:
    return cost_model.fit(dit, {"batch": (2, 3, 1)})


@pytest.fixture(scope="module")
def of_flux() -> CostModel:
    return cost_model.fit(flux, {"tokens": (9, 16, 25, 36)})


def counted(model: nn.Module, args: Any, kwargs: Any, **options: Any) -> Any:
    (graph,) = explain(model, *args, duca_options={"method": "duca", **options}, **kwargs).graphs
    return graph


def sized(tokens: int = 256, width: int = 96, depth: int = 3) -> dict[str, int]:
    return {"tokens": tokens, "width": width, "depth": depth}


def test_flops_are_what_explain_counts(of_dit: CostModel) -> None:
    graph = counted(*dit(**sized()), cache_ratio=0.37)
    assert {mode: of_dit.flops(mode, cache_ratio=0.37, **sized()) for mode in Mode} == graph.flops
    reads = {mode: of_dit.cost(mode, cache_ratio=0.37, **sized()).caches for mode in Mode}
    assert reads == graph.cache_bytes


@pytest.mark.parametrize("tokens", [9, 256])
def test_every_ratio_down_to_no_fresh_token(of_dit: CostModel, tokens: int) -> None:
    """9 tokens recompute none at 0.9 and 256 none at 0.999: then a conservative step has another graph."""
    found = sample(dit, sized(tokens, depth=2), Options(DuCa()))
    ratios = (0, 0.37, 0.88, 0.9, 0.99, 0.999, 1)
    said = [of_dit.cost(Mode.CONSERVATIVE, cache_ratio=ratio, **sized(tokens, depth=2)) for ratio in ratios]
    assert said == [found.cost(Mode.CONSERVATIVE, ratio) for ratio in ratios]
    assert len({cost.flops for cost in said}) == {9: 4, 256: 6}[tokens]


def test_a_batch_of_another_size(of_batches: CostModel) -> None:
    graph = counted(*dit(batch=7))
    assert {mode: of_batches.flops(mode, batch=7) for mode in Mode} == graph.flops


def test_text_and_image_and_both_joined(of_flux: CostModel) -> None:
    """At 0.9 the 6 tokens of text recompute none; at 0.98 only both joined, 55 tokens, recompute one."""
    found = sample(flux, {"tokens": 49}, Options(DuCa()))
    ratios = (0, 0.5, 0.9, 0.98, 1)
    said = [of_flux.cost(Mode.CONSERVATIVE, cache_ratio=ratio, tokens=49) for ratio in ratios]
    assert said == [found.cost(Mode.CONSERVATIVE, ratio) for ratio in ratios]
    assert of_flux.cost(Mode.FULL, tokens=49) == found.cost(Mode.FULL, 0.9)


def test_a_regime_that_the_grid_has_not_is_an_error(of_flux: CostModel) -> None:
    """4 tokens of image and 6 of text: at 0.8 the text has one to recompute and the image none."""
    with pytest.raises(ValueError, match=r"at cache_ratio=0\.8"):
        of_flux.cost(Mode.CONSERVATIVE, cache_ratio=0.8, tokens=4)


def test_the_formula_of_a_full_step(of_dit: CostModel) -> None:
    tokens, width, depth = of_dit.sizes.values()
    block = 24 * tokens * width**2 + 4 * tokens**2 * width + 12 * width**2
    ends = 2 * 256 * width + 2 * width**2 + 2 * width * 2 * width + 16 * tokens * width
    assert (of_dit.costs[Mode.FULL].flops - 2 * (depth * block + ends)).expand() == 0


def test_the_weights_of_a_step_are_the_parameters_it_reads(of_dit: CostModel) -> None:
    model = dit(**sized())[0]
    read = [held for name, held in [*model.named_parameters(), *model.named_buffers()] if name != "label.weight"]
    assert of_dit.cost(Mode.FULL, **sized()).weights == sum(held.nbytes for held in read)
    final = [held for name, held in model.named_parameters() if name.startswith(("time", "final"))]
    assert of_dit.cost(Mode.AGGRESSIVE, **sized()).weights == sum(held.nbytes for held in (*final, model.time.rates))


def test_a_family_that_is_no_polynomial_is_an_error() -> None:
    with pytest.raises(NotPolynomial, match=r"at {'doublings': 3} a full step, .* flops.* List one value"):
        cost_model.fit(lambda doublings: dit(tokens=4**doublings), {"doublings": (1, 2, 3)})


@pytest.mark.parametrize("values", [4, (4,), (4, 4, 16), ("4", "16"), (0, 1, 2)])
def test_values_that_make_no_grid_are_told(values: Any) -> None:
    with pytest.raises(ValueError, match="width must list different whole numbers to count at"):
        cost_model.fit(lambda width: dit(width=width), {"width": values})


def test_a_model_without_branches_is_refused() -> None:
    with pytest.raises(Refused, match="no residual branch"):
        cost_model.fit(lambda width: (nn.Linear(width, 3).eval(), (torch.ones(2, width),), {}), {"width": (1, 2, 3)})


def test_sampling_leaves_nothing_in_dynamo() -> None:
    """Else the class of the models would be near Dynamo's limit of recompilations before one of them is compiled."""
    for batch in (2, 3):
        sample(dit, {"batch": batch}, Options(DuCa()))
    model, args, _ = dit()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        torch.compile(model, backend="eager", dynamic=False)(*args)


def test_explain_looks_into_any_number_of_models() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        reports = [
            explain(dit(batch=batch)[0], *dit(batch=batch)[1], duca_options={"method": "duca"}) for batch in (2, 3)
        ]
    assert [len(report.graphs) for report in reports] == [1, 1]


def test_other_sizes_than_the_family_has_are_an_error(of_batches: CostModel) -> None:
    with pytest.raises(ValueError, match="the sizes are batch, not batch, depth"):
        of_batches.cost(Mode.FULL, batch=2, depth=3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("warmup", [1, 3])
def test_steps_of_each_mode(order: str, warmup: int) -> None:
    for cycle, steps in ((1, 9), (2, 9), (3, 2), (4, 1), (5, 50), (5, 13), (6, 50)):
        options = Options(DuCa(cycle=cycle, order=order, warmup_steps=warmup))
        said = {mode: count.subs({N: cycle, STEPS: steps}) for mode, count in steps_per_mode(options).items()}
        assert {mode: count for mode, count in said.items() if count} == Counter(options.sequence(steps))


def test_flops_and_speedup_of_a_generation(of_batches: CostModel) -> None:
    step = {mode: of_batches.flops(mode, batch=4) for mode in Mode}
    total = 10 * step[Mode.FULL] + 20 * step[Mode.CONSERVATIVE] + 20 * step[Mode.AGGRESSIVE]
    numbers = {of_batches.sizes["batch"]: 4, N: 5, R: 0.9, STEPS: 50}
    assert of_batches.trajectory_flops.subs(numbers) == total
    assert of_batches.speedup(batch=4) == 50 * step[Mode.FULL] / total
    assert of_batches.speedup(batch=4, price=lambda cost: 1.0) == 1


RATES = Calibration(2e-5, 1e-11, 3e-11, 2e-10, 0.0, 1.5e-10)


def costs(count: int) -> list[Cost[int]]:
    drawn = torch.randint(10**5, 10**8, (count, 5), generator=torch.Generator().manual_seed(0))
    return [Cost(flops + attention, attention, *rest) for flops, attention, *rest in drawn.tolist()]


def test_a_calibration_finds_the_rates() -> None:
    found = Calibration.fit(costs(9), [RATES.seconds(cost) for cost in costs(9)])
    for name in ("overhead", "linear_flop", "attention_flop", "weight_byte", "value_byte"):
        assert getattr(found, name) == pytest.approx(getattr(RATES, name), rel=1e-6)
    assert found.cache_byte == pytest.approx(0, abs=1e-16)


def test_no_rate_is_negative_and_errors_count_relatively() -> None:
    """What gets cheaper with every byte of cache gets no rate for it; a step a thousand times longer no more say."""
    given = [Cost(0, 0, 0, 10, 100), Cost(0, 0, 0, 20, 100), Cost(0, 0, 0, 0, 100_000)]
    found = Calibration.fit(given, [1.1, 0.9, 1000.0])
    assert found.cache_byte == 0
    assert found.seconds(given[2]) == pytest.approx(1000, rel=0.1)
    assert found.seconds(given[0]) == pytest.approx(1, rel=0.1)


def test_what_cannot_be_calibrated() -> None:
    for seconds in ([1.0], [1.0, 0.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="two measurements or more"):
            Calibration.fit(costs(2)[: len(seconds)], seconds)
