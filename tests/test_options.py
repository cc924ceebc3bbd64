import warnings
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from duca_compile import DucaWarning, Mode, OptionError, Options, torch_private
from duca_compile.generations.draw_tokens import RandomTokens
from duca_compile.methods import METHODS
from duca_compile.methods.duca import DuCa
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.plan.spellings import OTHER_NAMES
from duca_compile.plan.step_plan import Selection
from helpers import ours
from zoo.case import calls
from zoo.core import CORE, example_dit


def test_the_defaults_of_duca_are_the_papers() -> None:
    method = DuCa()
    assert (method.cycle, method.cache_ratio, method.order) == (5, 0.9, "conservative-first")
    assert Options.parse({"method": "duca"}).method == Options(method=DuCa()).method == method


def test_the_default_and_the_presets() -> None:
    balanced = ForecastStack(cycle=5, schedule="dense-ends")
    assert Options() == Options.parse({}) == Options.parse({"preset": "balanced"}) == Options(method=balanced)
    assert Options.parse({"preset": "fast"}).method == replace(balanced, cycle=7)
    assert Options.parse({"preset": "quality", "order": 2}).method == replace(balanced, cycle=3, order=2)
    assert Options.parse({"cycle": 4}).method == replace(balanced, cycle=4), "options are those of the default method"
    assert Options.parse({"method": TaylorSeer(order=2), "cycle": 4}).method == TaylorSeer(cycle=4, order=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_ratio": 0.5}, "cache_ratio is no option of method='forecast-stack', but of method='duca'"),
        ({"order": "aggressive"}, r"order cannot be 'aggressive'; it is one of 0, 1, 2 \(method='forecast-stack'\)"),
        ({"preset": "fast", "seed": 1}, "seed is no option of method='forecast-stack', but of method='duca'"),
        (
            {"method": "duca", "preset": "fast"},
            "method='duca', preset='fast': each names a method with its options; give one of them",
        ),
        ({"preset": "faster"}, "preset cannot be 'faster' \\(did you mean 'fast'"),
        ({"method": "taylor"}, "method cannot be 'taylor' \\(did you mean 'taylorseer'"),
        ({"method": 5}, "method must be the name of one, or a method, not 5"),
        ({"method": "fora", "order": 1}, "order is no option of method='fora', but of method='duca' and"),
        ({"schedule": "dense"}, "schedule cannot be 'dense' \\(did you mean 'dense-ends'"),
        ({"schedule": [3, 1]}, "list full steps that rise, counted from 0, not \\(3, 1\\)"),
        ({"schedule": [0]}, "or list full steps that rise"),
        ({"schedule": []}, "or list full steps that rise"),
        ({"schedule": [0, 2.5]}, "a step of schedule must be a whole number of at least 0, not 2.5"),
        (
            {"schedule": 5},
            "schedule must be one of 'even', 'dense-ends', .* or list full steps that rise, counted from 0, not 5",
        ),
    ],
)
def test_an_option_of_another_method_is_an_error_that_helps(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.parse(options)


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
        (
            {"selection": "random"},
            "which is the default of `selector`.*for each .branch. .* or once for the .step.",
        ),
        (
            {"cache_dtype": "int8"},
            "cache_dtype cannot be 'int8'; it is None or one of torch.bfloat16, .* or the name of",
        ),
        ({"cache_dtype": torch.int8}, "cache_dtype cannot be torch.int8"),
        ({"cache_budget": "1 G"}, "cache_budget cannot be '1 G'; it is a number of bytes, or a size such as '1GB' or"),
        ({"cache_budget": "lots"}, "cache_budget cannot be 'lots'"),
        ({"cache_budget": -1}, "cache_budget must be a whole number of at least 0"),
        ({"Cycel": 4}, "unknown option 'Cycel' \\(did you mean 'cycle'\\?\\)"),
        ({"inner": "inducter"}, "did you mean 'inductor'"),
        ({"inner": "duca"}, "inner cannot be 'duca'"),
        (
            {"inner": "tensorrt"},
            "inner cannot be 'tensorrt'; it is a function or a registered backend, such as .*inductor",
        ),
        ({"mode": "lite"}, "unknown option 'mode' \\(did you mean 'inductor_mode'\\?\\)"),
        ({"N": 4}, "unknown option 'N' \\(did you mean 'cycle'\\?\\)"),
        ({"interval": 4}, "unknown option 'interval' \\(did you mean 'cycle'\\?\\)"),
        ({"R": 0.9}, "unknown option 'R' \\(did you mean 'cache_ratio'\\?\\)"),
        ({"made_for": "6 branches"}, "unknown option 'made_for'"),
        ({"cache_budget": 1.5}, "cache_budget must be a whole number of at least 0, not 1.5"),
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
        Options.parse({"method": "duca", **options})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("teacache", {"polynomial": 5}, "polynomial must be a list of numbers, not 5"),
        ("teacache", {"polynomial": ()}, "polynomial must have a number at least"),
        ("teacache", {"threshold": float("nan")}, "threshold must be a number of at least 0, not nan"),
        ("magcache", {"ratios": 3}, "ratios must be a list of numbers, not 3"),
        ("magcache", {"ratios": "dit"}, "ratios must be a list of numbers, not 'dit'"),
        ("pab", {"window": 0.5}, "window must be a list of numbers, not 0.5"),
        ("pab", {"window": ("a", "b")}, "window must be a list of numbers"),
        ("toca", {"staleness": float("nan")}, "staleness must be a number of at least 0, not nan"),
    ],
)
def test_what_is_no_number_or_no_list_of_them_is_told(method: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.parse({"method": method, **options})


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("bfloat16", torch.bfloat16),
        ("torch.bfloat16", torch.bfloat16),
        ("BF16", torch.bfloat16),
        ("fp16", torch.float16),
        ("fp8", torch.float8_e4m3fn),
        ("float8_e5m2", torch.float8_e5m2),
    ],
)
def test_a_type_may_be_named(text: str, meant: torch.dtype) -> None:
    assert Options.parse({"cache_dtype": text}) == Options(cache_dtype=meant)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1GB", 1_000_000_000),
        ("500MB", 500_000_000),
        ("1 GiB", 2**30),
        ("1.5gib", 3 * 2**29),
        (" 64 KiB ", 65_536),
        ("2 TB", 2 * 10**12),
        ("4096", 4096),
        ("12 b", 12),
        (1.5e9, 1_500_000_000),
    ],
)
def test_a_budget_may_be_a_text_or_a_whole_float(text: str | float, meant: int) -> None:
    assert Options.parse({"cache_budget": text}) == Options(cache_budget=meant)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({1: 2}, "the name of an option must be a text, not 1"),
        ("fast", "options must be a dictionary, such as {'preset': 'fast'}, not 'fast'"),
        ([1], "options must be a dictionary, .* not \\[1\\]"),
        ([("cycle", 4)], "options must be a dictionary"),
        (0, "options must be a dictionary, .* not 0"),
    ],
)
def test_what_is_no_dictionary_of_options_is_told(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Options.parse(options)


def test_a_wrong_compiler_is_told_in_a_few_words() -> None:
    with pytest.raises(OptionError) as caught:
        Options.parse({"inner": "tensorrt"})
    assert len(str(caught.value)) < 250
    assert "TESTING" not in str(caught.value)


def test_what_options_are_called_elsewhere_is_of_options() -> None:
    names = {each.name for kind in (Options, *METHODS.values()) for each in fields(kind)}  # type: ignore[arg-type]
    assert set(OTHER_NAMES.values()) <= names
    assert names.isdisjoint(OTHER_NAMES)


def test_the_options_that_an_error_lists_are_those_of_users() -> None:
    with pytest.raises(OptionError) as caught:
        Options.parse({"?": 1})
    assert "made_for" not in str(caught.value)
    assert "strict, cycle, warmup_steps, schedule, " in str(caught.value)
    assert str(caught.value).endswith("preset, tuned")


def test_the_schedule() -> None:
    def modes(steps: int, **options: object) -> str:
        parsed = Options.parse({"method": "duca", **options})
        return "".join(recipe[0].upper() for recipe in parsed.sequence(steps))

    assert modes(11) == "FCACAFCACAF"
    assert modes(6, order="aggressive-first") == "FACACF"
    assert modes(6, order="conservative", cycle=3) == "FCCFCC"
    assert modes(6, order="aggressive", cycle=3) == "FAAFAA"
    assert modes(9, cycle=4, warmup_steps=4, order="aggressive-first") == "FFFFACAFA"
    assert modes(4, cycle=1) == modes(4, cycle=1, schedule="dense-ends") == "FFFF"
    assert modes(12, schedule=[0, 2, 7]) == "FCFCACAFCACA"
    assert modes(15, schedule=[1, 2, 4]) == "FFFCFCFCFCFCFCF", "after the last one, as far apart as any before"


def test_modes_that_no_step_uses_are_not_built() -> None:
    assert Options(DuCa(cycle=2)).recipes == (Mode.FULL, Mode.CONSERVATIVE)
    assert Options(DuCa(cycle=1)).recipes == (Mode.FULL,)
    assert Options(DuCa(order="aggressive")).recipes == (Mode.FULL, Mode.AGGRESSIVE)


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
    drawn = RandomTokens([Selection(10, 3, (0,))], DuCa(seed=seed).seed + 1).draw(torch.device("cpu"))
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
    assert seen_by_inductor(monkeypatch, options=options) == [{**mode, "epilogue_fusion": False}] * 2


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
    monkeypatch.setattr(torch_private, "cuda_graphed_functions", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        seen = seen_by_inductor(monkeypatch, **given)
    assert [changes["triton.cudagraphs"] for changes in seen] == [True] * 2
    torch._dynamo.reset()
    with pytest.warns(DucaWarning, match="without CUDA graphs.*max-autotune-no-cudagraphs") as caught:
        seen = seen_by_inductor(monkeypatch, dynamic=True, **given)
    assert len(ours(caught)) == 1
    assert [changes["triton.cudagraphs"] for changes in seen] == [False] * 2


@pytest.mark.parametrize("given", [{"mode": "max-autotune"}, {"options": {"inductor_mode": "reduce-overhead"}}])
def test_a_cpu_has_no_cuda_graphs_to_warn_of(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        seen = seen_by_inductor(monkeypatch, **given)
    assert [changes["triton.cudagraphs"] for changes in seen] == [True] * 2


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


def test_no_option_has_two_meanings() -> None:
    """Those of methods are given beside those that all share."""
    shared = {each.name for each in fields(Options)}
    assert not [name for name, kind in METHODS.items() for each in fields(kind) if each.name in shared]  # type: ignore[arg-type]
