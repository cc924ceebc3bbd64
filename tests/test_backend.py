"""The public face: found by name, options reach it, what it cannot do goes to the inner compiler with a reason."""

import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode, OptionError
from helpers import captured, compiled, lenient, ours, relative_error
from zoo.case import calls, noise, randomise
from zoo.core import CORE, example_dit

X, T, Y = noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2])


def test_the_backend_is_found_without_importing_it() -> None:
    code = "import torch; assert 'duca' in torch._dynamo.list_backends(); import sys; assert 'duca_compile' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/", env={**os.environ, "PYTHONPATH": ""})


def test_option_errors_reach_the_user() -> None:
    """As they are: nothing of Dynamo's before, after or around the message."""
    with pytest.raises(OptionError, match=r"^unknown option 'cylce' \(did you mean 'cycle'.*tuned$") as caught:
        lenient(example_dit(), cylce=3)(X, T, Y)
    with pytest.raises(ValueError, match=r"^unknown option"):
        torch.compile(example_dit(), backend="duca", options={"cylce": 3}, fullgraph=True)(X, T, Y)
    assert caught.traceback[-1].name == "compile_wrapper"
    assert caught.value.__cause__ is None
    with torch._dynamo.config.patch(verbose=True), pytest.raises(OptionError) as caught:
        lenient(example_dit(), cylce=3)(X, T, Y)
    assert caught.traceback[-1].name == "parse"


def test_mode_reaches_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import compile_fx

    seen: list[Any] = []

    def spy(gm: Any, inputs: Any, config_patches: Any = None) -> Any:
        seen.append(config_patches)
        return gm.forward

    monkeypatch.setattr(compile_fx, "compile_fx", spy)
    torch.compile(example_dit(), backend="duca", mode="max-autotune-no-cudagraphs")(X, T, Y)
    assert seen == [torch._inductor.list_mode_options("max-autotune-no-cudagraphs")]


def test_any_callable_can_be_the_inner_compiler() -> None:
    sizes: list[int] = []

    def inner(gm: Any, inputs: Any) -> Any:
        sizes.append(len(gm.graph.nodes))
        return gm.forward

    model = example_dit()
    fast = compiled(model, inner=inner, cycle=3)
    for t in (900.0, 880.0, 860.0, 840.0, 820.0, 800.0):
        fast(X, torch.full((2,), t), Y)
    full, conservative, aggressive = sizes
    assert full > aggressive
    assert conservative > aggressive


def test_an_inner_compiler_that_gives_no_function_is_told() -> None:
    fast = compiled(example_dit(), inner=lambda gm, inputs: None, cycle=3)
    with pytest.raises(TypeError, match="of the option inner gave None; it must return a function"):
        fast(X, torch.full((2,), 900.0), Y)


def test_a_graph_that_is_not_dynamos_runs_plain() -> None:
    gm = torch.fx.symbolic_trace(nn.Linear(2, 2))
    with pytest.warns(DucaWarning, match=r"no graph that Dynamo hands over.*duca_compile\.rewrite takes graphs"):
        run = duca_compile.duca(gm, [torch.ones(2, 2)], options={"inner": "eager"})
    assert run(torch.ones(2, 2)).shape == (2, 2)


def test_steady_state_runs_one_compiled_graph_per_step() -> None:
    calls: list[str] = []

    def inner(gm: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            calls.append("graph")
            return gm(*args)

        return run

    fast = compiled(example_dit(), inner=inner)
    steps = [900.0 - 10 * step for step in range(20)]
    for t in steps:
        fast(X, torch.full((2,), t), Y)
    assert len(calls) == len(steps)


class NoBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) * t[:, None, None].sin()


class NoTimestep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + self.a(x).relu())


class ByStrides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = example_dit()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.inside(x.as_strided(x.shape, x.stride()), t, y)
        return result


class CountsCalls(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inside = example_dit()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.inside(x, t, y)
        return result


@pytest.mark.parametrize(
    ("model", "args", "reason"),
    [
        (NoBranch().eval(), (torch.randn(2, 4, 8), T), "no residual branch"),
        (NoTimestep().eval(), (torch.randn(2, 4, 8),), "timestep embedding"),
        (CountsCalls().eval(), (X, T, Y), "changes one of its buffers in place"),
        (ByStrides().eval(), (X, T, Y), r"reads memory by its strides \(as_strided\)"),
    ],
)
def test_what_cannot_be_accelerated_runs_plain_with_one_warning(model: nn.Module, args: Any, reason: str) -> None:
    fast = lenient(model)
    with pytest.warns(DucaWarning, match=reason) as caught:
        got = fast(*args)
    assert len(ours(caught)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        assert torch.equal(fast(*args), got)
    assert torch.equal(model(*args), got)
    assert duca_compile.stats(model).graphs == 0


def test_with_gradients_the_inner_compiler_runs_and_differentiates() -> None:
    model = example_dit()
    with torch.enable_grad():
        with pytest.warns(DucaWarning, match="gradients are enabled"):
            result = lenient(model)(X, T, Y)
        result.square().mean().backward()
        weight = model.final.linear.weight
        compiled_grad = weight.grad
        model.zero_grad()
        model(X, T, Y).square().mean().backward()
    assert compiled_grad is not None
    assert weight.grad is not None
    assert torch.allclose(compiled_grad, weight.grad)


def test_strict_turns_the_warning_into_an_error() -> None:
    with pytest.raises(duca_compile.Refused, match=r"^no residual branch .* was found in this graph$"):
        lenient(NoBranch().eval(), strict=True)(torch.randn(2, 4, 8), T)


def test_a_result_may_be_written_to_without_harming_the_caches() -> None:
    model = example_dit()
    careful, careless = compiled(model), None
    want = [careful(X, torch.full((2,), t), Y).clone() for t in (900.0, 880.0, 860.0)]
    torch._dynamo.reset()
    careless = compiled(model)
    for t, expected in zip((900.0, 880.0, 860.0), want, strict=True):
        got = careless(X, torch.full((2,), t), Y)
        assert torch.equal(got, expected)
        got.fill_(float("nan"))


def test_autocast_around_the_call() -> None:
    model = example_dit()
    with torch.autocast("cpu", torch.bfloat16):
        fast = compiled(model)
        assert torch.equal(fast(X, T, Y), torch.compile(model, backend="eager")(X, T, Y))
        assert fast(X, T - 10, Y).isfinite().all()
        assert fast(X, T - 20, Y).isfinite().all()


class Islands(nn.Module):
    """Autocast around the attention, turned off around the sum; the MLP casts by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.mix, self.mlp = nn.Linear(1, 2), nn.Linear(10, 10), nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
                with torch.autocast("cpu", enabled=False):
                    x = x + gate * torch.cat([mixed.float(), mixed.float()], 1)[:, :10]
                inner = self.mlp(x).float().softmax(-1)
            with torch.autocast("cuda", enabled=False):
                x = x + gate * inner
        return self.mlp(x)


@pytest.mark.parametrize("around", [True, False])
def test_autocast_inside_the_forward(around: bool) -> None:
    model, x = Islands().eval(), noise(1, 10, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        fast = compiled(model, cycle=3)
        for t, mode in zip(
            (0.5, 0.49, 0.48, 0.47), (Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE, Mode.FULL), strict=True
        ):
            got, want = fast(x, torch.full((1,), t)), model(x, torch.full((1,), t))
            assert got.dtype == want.dtype
            assert relative_error(got.float(), want.float()) < 0.1
            assert torch.equal(got, want) or mode != Mode.FULL
    assert duca_compile.stats(model).steps[Mode.FULL] == 2
    found = captured(model, x, torch.full((1,), 0.5))
    features = {found.facts.branches[at].feature for at in range(4)}
    dtypes = [node.meta["val"].dtype for node in found.capture.gm.graph.nodes if node.name in features]
    assert dtypes == [torch.float32] * 4
    assert not any("autocast" in str(node.target) for node in found.capture.gm.graph.nodes)


class NormedHeads(Islands):
    """Ops that autocast reaches inside of, of one result and of several, on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attend = nn.RMSNorm(2), nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = x + self.attend(x, x, x)[0]
        return super().forward(self.norm(x), t) * nn.functional.cosine_similarity(x, x * t, dim=-1)[..., None]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_inside_of_ops_casts_as_eager_does(mode: Any, dtype: torch.dtype) -> None:
    model, x = NormedHeads().eval().to(dtype), noise(1, 10, 2).to(dtype)
    with mode(), torch.autocast("cpu", torch.bfloat16):
        fast = compiled(model, cycle=3)
        for t, cached in zip((0.5, 0.49, 0.48, 0.47), (False, True, True, False), strict=True):
            got, want = fast(x, torch.full((1,), t)), model(x, torch.full((1,), t))
            assert cached or torch.equal(got, want)
    assert duca_compile.stats(model).steps == {Mode.FULL: 2, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}


@pytest.mark.slow
def test_flux_under_autocast() -> None:
    model = randomise(CORE["FLUX"].build())
    given = calls(CORE["FLUX"].call, [900.0, 880.0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fast = compiled(model)
        assert torch.equal(fast(**given[0])[0], model(**given[0])[0])
        fast(**given[1])
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1


class Checkpointed(Islands):
    """Its blocks under checkpoints, as in training code, or in regions that are compiled once."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def block(self, x: Tensor, gate: Tensor) -> Tensor:
        x = x + gate * self.mix(x.transpose(1, 2)).transpose(1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            return x + gate * self.mlp(x).float().softmax(-1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.clock(t[:, None].sin())[:, None]
        for _ in range(2):
            x = self.call(self.block, x, gate)
        return self.mlp(x)


def checkpoint(function: Any, *args: Any) -> Any:
    return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)


def nested(function: Any, *args: Any) -> Any:
    return checkpoint(lambda *given: checkpoint(function, *given), *args)


@torch.compiler.nested_compile_region
def region(function: Any, *args: Any) -> Any:
    return function(*args)


@pytest.mark.parametrize("call", [checkpoint, nested, region])
def test_bodies_that_are_only_called_are_part_of_the_graph(call: Any) -> None:
    model, x = Checkpointed(call).eval(), noise(1, 10, 2)
    with torch.no_grad():
        fast = compiled(model, cycle=3)
        steps = [torch.full((1,), t) for t in (0.5, 0.49, 0.48, 0.47)]
        same = [torch.equal(fast(x, t), model(x, t)) for t in steps]
        assert same == [True, False, False, True]
        assert len(captured(model, x, steps[0]).facts.branches) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(dtype: torch.dtype) -> None:
    model = example_dit().to(dtype)
    fast = compiled(model)
    assert torch.equal(fast(X.to(dtype), T, Y), model(X.to(dtype), T, Y))
    assert fast(X.to(dtype), T - 10, Y).dtype == dtype
    assert duca_compile.stats(model).bytes == (2 * 2 + 1) * 2 * 16 * 32 * 2, "features and stream in the model's dtype"


def test_stats_of_a_model_never_compiled_are_zero() -> None:
    found = duca_compile.stats(example_dit())
    assert found.graphs == found.bytes == found.trajectories == 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_default_device_is_not_where_ours_lie(device: str) -> None:
    """No GPU is needed to see what is made without a device: on `meta` it has no values."""
    model = example_dit()
    fast = compiled(model)
    torch.set_default_device(device)
    try:
        with torch.no_grad():
            got = [fast(X, T - step, Y) for step in (0, 10, 20)]
    finally:
        torch.set_default_device(None)
    assert torch.equal(got[0], model(X, T, Y))
    assert duca_compile.stats(model).steps == {Mode.FULL: 1, Mode.CONSERVATIVE: 1, Mode.AGGRESSIVE: 1}


def test_a_batch_of_none() -> None:
    model, t = Islands().eval(), torch.full((0,), 0.5)
    with torch.no_grad():
        fast = compiled(model)
        for x in (noise(0, 10, 2), noise(1, 10, 2), noise(0, 10, 2)):
            for step in (0.0, 0.01, 0.02):
                assert fast(x, torch.full((len(x),), 0.5 - step)).shape == x.shape
    assert model(noise(0, 10, 2), t).shape == (0, 10, 2)
