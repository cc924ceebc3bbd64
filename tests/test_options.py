import warnings
from typing import Any

import pytest
import torch

from duca_compile import DucaWarning, Mode, OptionError, Options, torch_private
from duca_compile.generations.draw_tokens import RandomTokens
from duca_compile.plan.plan import Selection
from zoo.case import calls
from zoo.core import CORE, example_dit


def test_the_defaults_are_the_papers() -> None:
    assert (Options().cycle, Options().cache_ratio, Options().order) == (5, 0.9, "conservative-first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycel": 4}, "unknown option 'cycel' \\(did you mean 'cycle'\\?\\)"),
        ({"cycle": 0}, "cycle must be a whole number of at least 1, not 0"),
        ({"cycle": 2.5}, "cycle must be a whole number"),
        ({"cycle": True}, "cycle must be a whole number"),
        ({"cache_ratio": 1.2}, "cache_ratio must lie from 0 to 1"),
        ({"cache_ratio": "0.9"}, "cache_ratio must be a number"),
        ({"order": "conservativ"}, "did you mean 'conservative'"),
        ({"selection": "steps"}, "selection cannot be 'steps' \\(did you mean 'step'\\?\\)"),
        ({"warmup_steps": 0}, "warmup_steps must be a whole number of at least 1"),
        ({"aggressive_depth": "last"}, "aggressive_depth cannot be 'last'"),
        ({"cache_dtype": "bfloat16"}, "cache_dtype cannot be 'bfloat16'; it is None or one of torch.bfloat16, "),
        ({"cache_dtype": torch.int8}, "cache_dtype cannot be torch.int8"),
        ({"inner": "inducter"}, "did you mean 'inductor'"),
        ({"inner": "duca"}, "inner cannot be 'duca'"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 2**64}, "seed must be at most 2\\*\\*64 - 1, as torch.Generator takes it, not 18446744073709551616"),
        (
            {"inductor_mode": "max-autotun"},
            "inductor_mode cannot be 'max-autotun' \\(did you mean 'max-autotune'\\?\\)",
        ),
        ({"inductor_mode": "lite", "inner": "eager"}, "inductor_mode is for Inductor, and inner is 'eager'"),
        ({"inductor_options": {}, "inner": "eager"}, "inductor_options is for Inductor, and inner is 'eager'"),
        (
            {"inductor_options": {"max_autotun": True}},
            "Inductor has no option 'max_autotun' \\(did you mean 'max_autotune'",
        ),
        ({"inductor_options": {"?": 1}}, "Inductor has no option '\\?'; torch._inductor.list_options\\(\\) lists them"),
        ({"inductor_options": {"max_autotune": 1}}, "Inductor's option 'max_autotune' must be of type bool, not 1"),
        ({"inductor_options": "max_autotune"}, "inductor_options must be a dictionary, not 'max_autotune'"),
        ({"strict": 1}, "strict must be True or False"),
    ],
)
def test_an_impossible_option_is_an_error_that_helps(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.parse(options)


def test_the_schedule() -> None:
    def modes(steps: int, **options: object) -> str:
        parsed = Options.parse(options)
        return "".join(recipe[0].upper() for recipe in parsed.sequence(steps))

    assert modes(11) == "FCACAFCACAF"
    assert modes(6, order="aggressive-first") == "FACACF"
    assert modes(6, order="conservative", cycle=3) == "FCCFCC"
    assert modes(6, order="aggressive", cycle=3) == "FAAFAA"
    assert modes(9, cycle=4, warmup_steps=4, order="aggressive-first") == "FFFFACAFA"
    assert modes(4, cycle=1) == "FFFF"


def test_modes_that_no_step_uses_are_not_built() -> None:
    assert Options(cycle=2).recipes == (Mode.FULL, Mode.CONSERVATIVE)
    assert Options(cycle=1).recipes == (Mode.FULL,)
    assert Options(order="aggressive").recipes == (Mode.FULL, Mode.AGGRESSIVE)


def test_the_mode_of_torch_compile_and_ours_are_one() -> None:
    mode = "max-autotune-no-cudagraphs"
    assert Options().in_mode(mode) == Options(inductor_mode=mode)
    assert Options(inductor_mode=mode).in_mode(mode) == Options(inductor_mode=mode)
    assert Options(inductor_mode=mode).in_mode("default") == Options(inductor_mode=mode).in_mode(None)
    with pytest.raises(
        OptionError, match="mode='lite' and the option inductor_mode='max-autotune-no-cudagraphs' differ"
    ):
        Options(inductor_mode=mode).in_mode("lite")
    with pytest.raises(OptionError, match="inductor_mode is for Inductor, and inner is 'eager'"):
        Options(inner="eager").in_mode(mode)


def test_inductors_options_win_over_its_modes() -> None:
    given = {"max_autotune": False, "epilogue_fusion": True}
    changes = Options(inductor_mode="max-autotune-no-cudagraphs", inductor_options=given).inductor_config
    assert changes == {**torch._inductor.list_mode_options("max-autotune-no-cudagraphs"), **given}
    assert Options().inductor_config == {}


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_every_seed_draws_in_every_graph_of_a_split_model(seed: int) -> None:
    """The second graph's seed is one more than the first's."""
    drawn = RandomTokens([Selection(10, 3, (0,))], Options(seed=seed).seed + 1).draw(torch.device("cpu"))
    assert [index.shape for index in drawn] == [(3,)]


def seen_by_inductor(monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    """The changes to its configuration, of each compilation of a short generation."""
    from torch._inductor import compile_fx

    seen: list[dict[str, Any]] = []

    def spy(gm: Any, inputs: Any, config_patches: Any = None) -> Any:
        seen.append(config_patches)
        return gm.forward

    monkeypatch.setattr(compile_fx, "compile_fx", spy)
    model, call = example_dit(), CORE["example DiT"].call
    fast = torch.compile(model, backend="duca", **given)
    for each in calls(call, [900.0, 880.0, 860.0]):
        fast(**each)
    return seen


def test_inductors_mode_and_options_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"inductor_mode": "max-autotune-no-cudagraphs", "inductor_options": {"epilogue_fusion": False}}
    mode = torch._inductor.list_mode_options("max-autotune-no-cudagraphs")
    assert seen_by_inductor(monkeypatch, options=options) == [{**mode, "epilogue_fusion": False}] * 3


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "max-autotune"},
        {"options": {"inductor_mode": "max-autotune"}},
        {"options": {"inductor_options": {"triton.cudagraphs": True}}},
    ],
)
def test_cuda_graphs_are_recorded_of_one_graph_of_fixed_sizes(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_private, "records_cuda_graphs", lambda changes, inputs: changes.get("triton.cudagraphs"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        seen = seen_by_inductor(monkeypatch, **given)
    assert [changes["triton.cudagraphs"] for changes in seen] == [True] * 3
    torch._dynamo.reset()
    with pytest.warns(DucaWarning, match="without CUDA graphs.*max-autotune-no-cudagraphs") as caught:
        seen = seen_by_inductor(monkeypatch, dynamic=True, **given)
    assert len(caught) == 1
    assert [changes["triton.cudagraphs"] for changes in seen] == [False] * 3


@pytest.mark.parametrize("given", [{"mode": "max-autotune"}, {"options": {"inductor_mode": "reduce-overhead"}}])
def test_a_cpu_has_no_cuda_graphs_to_warn_of(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        seen = seen_by_inductor(monkeypatch, **given)
    assert [changes["triton.cudagraphs"] for changes in seen] == [True] * 3


def test_where_nothing_is_cached_cuda_graphs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_private, "records_cuda_graphs", lambda changes, inputs: True)
    options = {"cycle": 1, "inductor_mode": "reduce-overhead"}
    assert seen_by_inductor(monkeypatch, options=options) == [{"triton.cudagraphs": True}]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_drawn_tokens_begin_where_kernels_read_16_bytes_at_a_time(count: int) -> None:
    selector = RandomTokens([Selection(10, count, (0, 1, 2)), Selection(9, count, (3,))], 0)
    for _ in range(10):
        drawn = selector.draw(torch.device("cpu"))
        assert [tuple(each.shape) for each in drawn] == [(count,)] * 4
        assert not any(each.data_ptr() % 16 for each in drawn)
        assert all(each.is_contiguous() for each in drawn)
