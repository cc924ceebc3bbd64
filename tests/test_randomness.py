"""A forward that draws random numbers is computed whole, whatever mode its modules are in; one that draws none is cached."""

import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode
from helpers import compiled, lenient, ours
from tiny import Tiny, tiny_call
from zoo.case import calls
from zoo.core import CORE, example_dit

TIMES = (0.5, 0.49, 0.48, 0.47)
CACHED = {Mode.FULL: 1, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 1}


class Inside(Tiny):
    """`inside` between the two branches."""

    def __init__(self, inside: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside = inside

    def forward(model, x: Tensor, t: Tensor) -> Tensor:
        gate = model.clock(t[:, None].sin())[:, None]
        x = model.inside(x + gate * model.mix(x.transpose(1, 2)).transpose(1, 2))
        return model.leave(x + gate * model.mlp(x).relu())


@torch.library.custom_op("duca_tests::jitter", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def jitter(x: Tensor) -> Tensor:
    return x + torch.rand_like(x)


@jitter.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def attend(x: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout)


def branching(x: Tensor) -> Tensor:
    found: Tensor = torch.cond(x.sum() > 0, lambda x: x + torch.randn_like(x), lambda x: x.clone(), (x,))
    return found


def stochastic_depth(x: Tensor) -> Tensor:
    return x * torch.empty(x.shape[0], 1, 1).bernoulli_(0.9) / 0.9


def reparameterised(x: Tensor) -> Tensor:
    return torch.distributions.Normal(x, torch.ones_like(x)).rsample()


DRAWS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "dropout": (lambda x: F.dropout(x, 0.1), r"dropout.*in training mode; call model.eval\(\)"),
    "dropout in place": (lambda x: F.dropout(x.clone(), 0.1, inplace=True), r"call model.eval\(\)"),
    "dropout of channels": (lambda x: F.dropout2d(x[:, None], 0.1)[:, 0], r"call model.eval\(\)"),
    "attention dropout": (lambda x: attend(x, 0.1), r"scaled_dot_product_attention.*in training mode"),
    "noise": (lambda x: x + torch.rand(x.shape), r"aten.rand, test_randomness.py:\d+\) draws random numbers"),
    "noise like": (lambda x: x + torch.randn_like(x), "randn_like"),
    "noise in place": (lambda x: x + torch.empty_like(x).uniform_(), "uniform"),
    "stochastic depth": (stochastic_depth, "bernoulli"),
    "a sampled latent": (reparameterised, "normal"),
    "a permutation": (lambda x: x[:, torch.randperm(10)], "randperm"),
    "in a branch of cond": (branching, "randn_like"),
    "in a vmap": (lambda x: torch.vmap(lambda row: row + torch.randn_like(row), randomness="different")(x), "randn"),
    "a custom op": (lambda x: jitter(x), "duca_tests.jitter"),
    "Python's random": (lambda x: x + random.uniform(0, 1), "Python's random"),
    "in another graph": (lambda x: x * 2 if torch.rand(1) < 0.5 else x, "aten.rand"),
}


def run(fast: Callable[..., Any], seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    random.seed(seed)
    x, _ = tiny_call()
    return [fast(x, torch.full((1,), t)) for t in TIMES]


@pytest.mark.parametrize("name", DRAWS)
def test_what_draws_is_refused(name: str) -> None:
    inside, reason = DRAWS[name]
    model = Inside(inside).eval()
    with torch.no_grad(), pytest.warns(DucaWarning, match=reason) as caught:
        got = run(lenient(model))
    assert len(ours(caught)) == 1
    assert not duca_compile.stats(model).steps.total()
    with torch.no_grad():
        want = run(torch.compile(model, backend="eager"))
    assert [torch.equal(a, b) for a, b in zip(got, want, strict=True)] == [True] * len(TIMES)


@torch._dynamo.disable  # type: ignore[untyped-decorator]
def noisy(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


@torch._dynamo.disable  # type: ignore[untyped-decorator]
def scaled_by_chance(x: Tensor) -> Tensor:
    return x * random.uniform(0.9, 1)


@pytest.mark.parametrize("inside", [noisy, scaled_by_chance])
def test_what_draws_between_the_graphs_is_refused(inside: Callable[[Tensor], Tensor]) -> None:
    model = Inside(inside).eval()
    fast = lenient(model)
    with torch.no_grad(), pytest.warns(DucaWarning, match="draws random numbers between its graphs") as caught:
        got = run(fast)
    assert len([warning for warning in caught if "random" in str(warning.message)]) == 1
    steps = duca_compile.stats(model).steps
    assert steps.total() == steps[Mode.FULL] == 1, "the second call, which is the first to be placed"
    with torch.no_grad():
        want = run(torch.compile(model, backend="eager"))
    assert [torch.equal(a, b) for a, b in zip(got, want, strict=True)] == [True] * len(TIMES)


def test_another_draw_during_one_call_is_no_reason() -> None:
    """As by a thread that draws the noise of the next request."""
    draws = [lambda: torch.rand(1), lambda: None]

    @torch._dynamo.disable  # type: ignore[untyped-decorator]
    def meanwhile(x: Tensor) -> Tensor:
        (draws.pop(0) if draws else lambda: None)()
        return x * 0.9

    model = Inside(meanwhile).eval()
    fast = lenient(model)
    with torch.no_grad():
        run(fast)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] > 0


@pytest.mark.parametrize(
    "inside",
    [
        lambda x: F.dropout(x, 0.0),
        lambda x: F.dropout(x, 0.1, training=False),
        lambda x: F.rrelu(x, training=False),
        lambda x: attend(x, 0.0),
        lambda x: (torch.randn_like(x), x)[1],
    ],
)
def test_what_draws_nothing_that_matters_is_cached(inside: Callable[[Tensor], Tensor]) -> None:
    model = Inside(inside).eval()
    with torch.no_grad():
        run(compiled(model))
    assert duca_compile.stats(model).steps == CACHED


def test_one_submodule_left_in_training_mode_is_enough() -> None:
    dropout = nn.Dropout(0.1)
    model = Inside(dropout).eval()
    dropout.train()
    with torch.no_grad(), pytest.warns(DucaWarning, match="dropout"):
        run(lenient(model))
    assert not duca_compile.stats(model).steps.total()


def test_a_compiled_function_is_refused_like_a_module() -> None:
    model = Inside(nn.Dropout(0.1)).train()
    with torch.no_grad(), pytest.warns(DucaWarning, match="dropout"):
        run(lenient(lambda x, t: model(x, t)))
    assert not duca_compile.stats(model).steps.total()


def test_training_mode_that_changes_nothing_is_cached() -> None:
    """A model that was only never told `eval()`, without dropout: the graph is that of evaluation."""
    model, call = example_dit(), CORE["example DiT"].call
    with torch.no_grad():
        want = compiled(model)(**call(900.0))
        torch._dynamo.reset()
        duca_compile.reset(model)
        fast = compiled(model.train())
        got = [fast(**given) for given in calls(call, [900.0, 880.0])]
    assert torch.equal(got[0], want)
    assert duca_compile.stats(model).steps[Mode.CONSERVATIVE] == 1


def test_batch_norm_in_training_mode_says_what_to_do() -> None:
    model = Inside(nn.BatchNorm1d(10)).train()
    with torch.no_grad(), pytest.warns(DucaWarning, match=r"changes one of its buffers.*call model.eval\(\)"):
        run(lenient(model))


def test_explain_refuses_the_same() -> None:
    model = Inside(nn.Dropout(0.1)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        report = duca_compile.explain(model, *tiny_call())
    assert "training mode; call model.eval()" in " ".join(str(report).split())
