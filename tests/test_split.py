"""A forward pass that Dynamo splits: its graphs are cached as the whole would be."""

import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode
from duca_compile.cost.flops import Executed
from duca_compile.runtime import registry
from helpers import lenient, ours
from zoo.case import noise, randomise
from zoo.survey import executed

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE
TIMES = [900.0, 880.0, 860.0, 840.0, 820.0, 800.0, 780.0]


class Broken(nn.Module):
    """Three blocks of two branches each; Python between them breaks the graph where `breaks` says so.

    The first block runs twice. `flavour` is read between the graphs, where no guard of Dynamo's watches it.
    """

    def __init__(self, breaks: Sequence[str] = ("between", "callee")) -> None:
        super().__init__()
        self.breaks, self.flavour = breaks, 0
        self.clock, self.leave, self.enter = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList([Block(breaks) for _ in range(2)])

    def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
        gate = self.clock((t[:, None] * torch.arange(4) / 10).sin())[:, None]
        x = self.enter(x)
        for block in (self.blocks[0], self.blocks[0], self.blocks[1]):
            x = block(x, context, gate)
            if "between" in self.breaks:
                torch._dynamo.graph_break()
        return self.leave(x)


class Block(nn.Module):
    def __init__(self, breaks: Sequence[str]) -> None:
        super().__init__()
        self.breaks = breaks
        self.query, self.mlp = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, context: Tensor, gate: Tensor) -> Tensor:
        x = x + gate * nn.functional.scaled_dot_product_attention(self.query(x), context, context)
        if "callee" in self.breaks:
            torch._dynamo.graph_break()
        return x + gate * self.mlp(x).relu()


def run(fast: Any, context: Tensor, times: Sequence[float] = TIMES) -> list[Tensor]:
    """Over latents that stay, and so tell nothing."""
    return [fast(noise(2, 6, 8), context, torch.full((2,), t)) for t in times]


def modes(model: nn.Module, fast: Any, context: Tensor, times: Sequence[float]) -> list[Mode]:
    """In which modes the calls ran; FULL ones are checked to be exact."""
    found = []
    for t in times:
        before = duca_compile.stats(model).steps
        (got,) = run(fast, context, [t])
        after = duca_compile.stats(model).steps
        found += [mode for mode in Mode if after[mode] > before[mode]]
        if found[-1] is F:
            assert torch.equal(got, run(model, context, [t])[0])
    return found


@pytest.fixture
def context() -> Tensor:
    return noise(2, 5, 8, seed=1)


@pytest.fixture
def model() -> Broken:
    return randomise(Broken())


@pytest.fixture
def fast(model: Broken, context: Tensor) -> Any:
    """Has made its first call, from which it learns."""
    found = lenient(model)
    run(found, context, [1000.0])
    return found


@pytest.mark.parametrize("breaks", [("between",), ("callee",), ("between", "callee")])
@pytest.mark.parametrize("order", ["conservative-first", "conservative", "aggressive"])
def test_results_are_those_of_the_unbroken_model(breaks: Sequence[str], order: str, context: Tensor) -> None:
    """With no token to recompute: which ones are drawn depends on how many branches a graph has."""
    options: dict[str, Any] = {"cycle": 3, "cache_ratio": 1.0, "order": order}
    whole = run(lenient(randomise(Broken(())), **options), context)
    torch._dynamo.reset()
    split = lenient(randomise(Broken(breaks)), **options)
    run(split, context, [1000.0])
    for got, want in zip(run(split, context), whole, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_all_graphs_take_the_same_step(model: Broken, fast: Any, context: Tensor) -> None:
    assert modes(model, fast, context, TIMES) == [F, C, A, C, A, F, C]
    found = duca_compile.stats(model)
    assert found.trajectories == 1
    assert found.graphs > 1
    assert found.bytes > 0
    assert not found.resets


class Unrolled(Broken):
    """Its last layer is in a graph: Dynamo leaves a loop with a break in it to Python, and all that comes after."""

    def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
        gate = self.clock((t[:, None] * torch.arange(4) / 10).sin())[:, None]
        x = self.blocks[0](self.enter(x), context, gate)
        return self.leave(self.blocks[1](x, context, gate))


def test_generations_in_turns_are_told_apart_by_what_the_last_graph_gives(context: Tensor) -> None:
    """Their latents are made of it; the timesteps alone would fit either way."""
    model = randomise(Unrolled(["callee"]))
    fast = lenient(model)
    run(fast, context, [1000.0])
    x, found = {"one": noise(2, 6, 8, seed=5), "two": noise(2, 6, 8, seed=6)}, []
    for number in range(4):
        for name, ahead in (("one", 0.0), ("two", 10.0)):
            before = duca_compile.stats(model).steps
            output = fast(x[name], context, torch.full((2,), 900.0 - 20 * number - ahead))
            after = duca_compile.stats(model).steps
            found += [mode for mode in Mode if after[mode] > before[mode]]
            x[name] = x[name] - 0.05 * output
    assert found == [F, F, F, C, C, A, A, C]


def test_tokens_are_recomputed_in_every_graph(model: Broken, context: Tensor) -> None:
    fast = lenient(model, cache_ratio=0.0, order="conservative")
    run(fast, context, [1000.0])
    for got, want in zip(run(fast, context), run(model, context), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_another_generation_starts_full(model: Broken, fast: Any, context: Tensor) -> None:
    assert modes(model, fast, context, [900.0, 880.0, 860.0, 900.0, 880.0]) == [F, C, A, F, C]
    assert modes(model, fast, noise(2, 5, 8, seed=2), [860.0]) == [F]
    context.add_(1)
    assert modes(model, fast, context, [840.0]) == [F]


def test_interleaved_generations_equal_separate_ones(model: Broken, fast: Any, context: Tensor) -> None:
    other = noise(2, 5, 8, seed=2)
    want = run(fast, context), run(fast, other)
    duca_compile.reset(model)
    for step, t in enumerate(TIMES):
        assert torch.equal(run(fast, context, [t])[0], want[0][step])
        assert torch.equal(run(fast, other, [t])[0], want[1][step])


def test_written_weights_of_one_graph_start_over(model: Broken, fast: Any, context: Tensor) -> None:
    assert modes(model, fast, context, [900.0, 880.0]) == [F, C]
    model.get_parameter("blocks.1.mlp.weight").add_(1)
    run(fast, context, [860.0])
    assert modes(model, fast, context, [840.0, 820.0]) == [F, C]
    assert duca_compile.stats(model).resets == {"the forward pass took another way": 1}


def test_other_arguments_between_the_graphs_start_over(context: Tensor) -> None:
    """A switch that Dynamo does not guard: it is read by Python that runs between the graphs."""

    class Switched(Broken):
        use_other = False

        @torch._dynamo.disable  # type: ignore[untyped-decorator]
        def choose(self, one: Tensor, other: Tensor) -> Tensor:
            return other if self.use_other else one

        def forward(self, x: Tensor, context: Tensor, t: Tensor, other: Tensor | None = None) -> Tensor:
            return super().forward(x, self.choose(context, t if other is None else other), t)

    model = randomise(Switched())
    other = noise(2, 5, 8, seed=2)
    fast = lenient(model)
    for t in (1000.0, 900.0, 880.0):
        fast(noise(2, 6, 8), context, torch.full((2,), t), other)
    model.use_other = True
    arguments = noise(2, 6, 8), context, torch.full((2,), 860.0), other
    torch.testing.assert_close(fast(*arguments), model(*arguments))
    assert duca_compile.stats(model).resets == {"the forward pass took another way": 1}


def test_a_list_of_latents_beside_a_reference(context: Tensor) -> None:
    """Items of one list: what stays while the others move is given, and another one starts a new trajectory."""

    class Lists(Broken):
        def forward(self, x: Any, context: Tensor, t: Tensor) -> Tensor:
            return super().forward(torch.cat(x, 1), context, t)

    model = randomise(Lists())
    fast, reference, other = lenient(model), noise(2, 2, 8, seed=3), noise(2, 2, 8, seed=4)
    found = []
    for t, beside in [(1000.0, reference), (900.0, reference), (880.0, reference), (860.0, reference), (840.0, other)]:
        before = duca_compile.stats(model).steps
        fast([noise(2, 4, 8), beside], context, torch.full((2,), t))
        after = duca_compile.stats(model).steps
        found += [mode for mode in Mode if after[mode] > before[mode]]
    assert found[-3:] == [C, A, F]


def test_an_exception_between_the_graphs_leaves_no_cache_half_filled(
    model: Broken, fast: Any, context: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert modes(model, fast, context, TIMES[:5]) == [F, C, A, C, A]

    def interrupted(*inputs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for graph in registry.graphs(model)[-1:]:
            patch.setattr(graph.recipes[F], "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(fast, context, [800.0])
    assert duca_compile.stats(model).trajectories == 0
    assert modes(model, fast, context, [780.0, 760.0]) == [F, C]


def told(model: nn.Module, *args: Any, times: Sequence[float] = (900.0, 880.0, 860.0)) -> list[str]:
    """The warnings over some calls, all of which are exact."""
    fast = lenient(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for t in times:
            arguments = noise(2, 6, 8, seed=int(t)), *args, torch.full((2,), t)
            assert torch.equal(fast(*arguments), model(*arguments))
    return ours(caught)


def test_one_warning_where_no_graph_can_be_accelerated(context: Tensor) -> None:
    class Plain(Broken):
        def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
            x = self.enter(x) * t.sin()[:, None, None]
            torch._dynamo.graph_break()
            return self.leave(x)

    (warning,) = told(randomise(Plain()), context)
    assert "no graph of a split forward pass has a residual branch; Dynamo split" in warning
    assert "graph_break" in warning


def test_one_warning_where_no_argument_is_a_timestep(context: Tensor) -> None:
    class Timeless(Broken):
        def forward(self, x: Tensor, context: Tensor, level: Tensor) -> Tensor:
            gate = self.clock(level[:, None].expand(2, 4))[:, None]
            for block in self.blocks:
                x = block(x, context, gate)
            return self.leave(x)

    (warning,) = told(randomise(Timeless()), context)
    assert "steps cannot be told apart" in warning
    assert "duca_compile.session(key, steps=...)" in warning


def test_one_warning_where_an_argument_hides_tensors() -> None:
    class Hides:
        __slots__ = ("context",)

        def __init__(self) -> None:
            self.context = noise(2, 5, 8)

    class Opens(Broken):
        def forward(self, x: Tensor, held: Any, t: Tensor) -> Tensor:
            return super().forward(x, held.context, t)

    (warning,) = told(randomise(Opens()), Hides())
    assert "the argument held holds a Hides, which may hold tensors out of sight" in warning


STAGES = [
    "duca_compile.backend.torch_private.is_whole",
    "duca_compile.runtime.split.forward.registry.add",
    "duca_compile.runtime.compiled_graph.CompiledGraph.new_cache",
]
OF_EVERY_CALL = [
    "duca_compile.runtime.split.forward.torch_private.root_call",
    "duca_compile.runtime.split.forward.leaves",
    "duca_compile.runtime.split.forward.likeliest_latents",
    "duca_compile.runtime.split.forward.Tracker.visit",
    "duca_compile.runtime.split.forward.Forward.meet",
    "duca_compile.runtime.split.forward.Forward.next",
]


@pytest.mark.parametrize(
    ("stage", "calls_before"),
    [*((stage, 0) for stage in STAGES + OF_EVERY_CALL), *((stage, 3) for stage in OF_EVERY_CALL)],
)
def test_a_fault_anywhere_leaves_the_plain_results(
    stage: str, calls_before: int, context: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a planted fault")

    class Mixed(Broken):
        """Has graphs that are accelerated and one that is not."""

        def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
            gate = self.clock((t[:, None] * torch.arange(4) / 10).sin())[:, None]
            x = self.blocks[1](self.blocks[0](self.enter(x), context, gate), context, gate)
            return self.leave(x)

    model = randomise(Mixed(["callee"]))
    fast = lenient(model)
    run(fast, context, TIMES[:calls_before])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monkeypatch.setattr(stage, fail)
        for t in TIMES[calls_before:]:
            got, want = run(fast, context, [t]), run(model, context, [t])
            assert torch.equal(got[0], want[0])
    assert any("a planted fault" in message for message in ours(caught))


def test_the_log_says_what_the_breaks_cost(model: Broken, context: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "duca_compile"):
        run(lenient(model), context, TIMES[:2])
    (line,) = [record.getMessage() for record in caplog.records if "split" in record.getMessage()]
    assert "Dynamo split the forward pass into 6 graphs" in line
    assert "ended by: Call to `torch._dynamo.graph_break()`" in line
    assert "FLOPs as a share of a full step: aggressive" in line


class Outside(Broken):
    """Between two of its graphs runs Python that Dynamo does not look into: products of `width` columns."""

    def __init__(self, width: int) -> None:
        super().__init__(["between"])
        self.wide, self.narrow = nn.Linear(8, width), nn.Linear(width, 8)

    @torch._dynamo.disable  # type: ignore[untyped-decorator]
    def outside(self, x: Tensor) -> Tensor:
        return self.narrow(self.wide(x))

    def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
        return super().forward(self.outside(self.enter(x)), context, t)


def one_call(t: float) -> dict[str, Any]:
    return {
        "x": noise(2, 6, 8),
        "context": noise(2, 5, 8, seed=1),
        "t": torch.full((2,), t),
    }


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("width", [4, 2000])
def test_what_is_told_is_what_runs(
    width: int, dynamic: bool, context: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    """In and outside of the graphs; and who gets less than half of it cached is told so."""
    model = randomise(Outside(width))
    found = executed(model, one_call)
    torch._dynamo.reset()
    with caplog.at_level(logging.INFO, "duca_compile"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(lenient(model, dynamic=dynamic), context)
    (line,) = [record.getMessage() for record in caplog.records if "split" in record.getMessage()]
    for mode in Mode:
        assert f"{mode.value} {found[mode] / found[F]:.1%}" in line
    (outside,) = re.findall(r"([\d.]+)% run outside of the graphs, in every recipe", line)
    assert 2 * 2 * 2 * 6 * 8 * width <= float(outside) / 100 * found[F] <= found[A]
    told = ours(caught)
    assert len(told) == (width == 2000)
    for warning in told:
        assert f"only partly: {found[A] / found[F]:.0%} of the FLOPs of a full step run in every recipe" in warning
        assert "after a break" in warning
        assert "torch.compiler.disable" in warning


def test_counting_ends_with_its_call(context: Tensor) -> None:
    """Also where the call fails, and it is not told then."""

    class Fails(Outside):
        fails = False

        @torch._dynamo.disable  # type: ignore[untyped-decorator]
        def outside(self, x: Tensor) -> Tensor:
            if self.fails:
                raise KeyError("of the model")
            return super().outside(x)

    model = randomise(Fails(2000))
    fast = lenient(model)
    run(fast, context, [1000.0])
    model.fails = True
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        with pytest.raises(KeyError, match="of the model"):
            run(fast, context, [980.0])
    assert duca_compile.torch_private.current_dispatch_mode() is None
    model.fails = False
    run(fast, context, [960.0])
    assert duca_compile.torch_private.current_dispatch_mode() is None


def test_a_dispatch_mode_of_the_model_is_left_alone(context: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    """One that is entered before a graph and left after it."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = Outside(2000), Outside(4)

        def forward(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
            x = self.inner(x, context, t)
            with Executed():
                x = self.outer(x, context, t)
            return x

    model = randomise(Around())
    found = executed(model, one_call)
    torch._dynamo.reset()
    with caplog.at_level(logging.INFO, "duca_compile"):
        run(lenient(model), context)
    assert duca_compile.torch_private.current_dispatch_mode() is None
    (line,) = [record.getMessage() for record in caplog.records if "split" in record.getMessage()]
    assert f"aggressive {found[A] / found[F]:.1%}" in line


@pytest.mark.parametrize("options", [
    {"method": "delta-dit"}, {"method": "duca", "aggressive_depth": "all-but-last"}, {"method": "duca", "ratios": "flux"},
    {"method": "pab"}, {"method": "teacache"},
], ids=str)  # fmt: skip
def test_methods_that_decide_for_the_model_as_a_whole_are_refused(options: dict[str, Any]) -> None:
    model, context = randomise(Broken(("between",))), noise(2, 5, 8, seed=1)
    fast = lenient(model, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = run(fast, context)
    assert sum("decides for the model as a whole" in message for message in ours(caught)) == 1
    assert all(torch.equal(a, b) for a, b in zip(got, run(model, context), strict=True))
