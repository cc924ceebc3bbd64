"""The rewrites on structures nobody thought of: random models against eager mode and against a plan's definition.

Narrow graphs run as captured. Wide twins run the very same graphs with every float in float64: there, both sides of a
comparison may round differently (one row of a matrix product or many) without hiding an error, so one tight tolerance
serves all models, those with bfloat16 inside too.
"""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from torch import Tensor

from duca_compile.methods.duca import Mode
from helpers import refreshed
from random_dit.bodies import BODIES
from random_dit.interpreter import stored_by
from random_dit.layouts import Layout
from random_dit.models import LONG_SKIPS, RELAYOUTS, RETURNS, Spec, random_call
from random_dit.parts import GATES, ISLANDS, MODULATIONS, NORMS, WHERE, Part
from random_dit.subjects import Subject, subject

WIDE = 1e-9
"""Of float64: rounding is some 1e-16, and norms over few features enlarge it."""
FEW, MANY = 5, 400
"""Examples of each property: by default, and with `-m slow`."""

GRIDS = [(4,), (5,), (6,), (8,), (2, 2), (2, 3), (4, 2), (1, 6), (4, 1), (2, 2, 2), (2, 1, 3)]
layouts = st.one_of(
    st.builds(Layout, st.sampled_from([1, 2, 4]), st.sampled_from(GRIDS), st.booleans()),
    st.builds(Layout, st.none(), st.sampled_from([(4,), (5,), (8,)])),
)
parts = st.builds(
    Part,
    body=st.sampled_from(sorted(BODIES)),
    norm=st.sampled_from(NORMS),
    modulation=st.sampled_from(MODULATIONS),
    gate=st.sampled_from(sorted(GATES)),
    island=st.sampled_from(ISLANDS),
    where=st.sampled_from(WHERE),
    in_place=st.booleans(),
)
specs = st.builds(
    Spec,
    layout=layouts,
    features=st.sampled_from([4, 8]),
    clock_per_token=st.booleans(),
    blocks=st.lists(st.lists(parts, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple),
    shared=st.booleans(),
    joined_from=st.integers(0, 5),
    relayout=st.sampled_from(RELAYOUTS),
    long_skip=st.sampled_from(LONG_SKIPS),
    control=st.booleans(),
    embeds=st.booleans(),
    returns=st.sampled_from(RETURNS),
    seed=st.integers(0, 99),
)
ratios = st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.6, 0.75])
depths = st.sampled_from(["all", "all-but-last"])


def assert_close(got: Sequence[Tensor], want: Sequence[Tensor], about: str) -> None:
    assert len(got) == len(want), about
    for mine, theirs in zip(got, want, strict=True):
        assert mine.shape == theirs.shape, about
        assert mine.dtype == theirs.dtype, about
        assert float((mine - theirs).abs().max()) <= WIDE * float(theirs.abs().max()), about


def check_full(spec: Spec, cache_ratio: float, depth: str, seed: int) -> None:
    """A FULL step is eager mode, bit for bit, and stores the values that the plan names."""
    found = subject(spec, cache_ratio, depth)
    if found is None:
        return
    for call in (random_call(spec, 0), random_call(spec, seed)):
        results, stored = found.run(Mode.FULL, call)
        assert list(map(torch.equal, results, found.eager(call))) == [True] * len(results)
        defined = stored_by(found.plan, Mode.FULL, found.definition.full(found.inputs(call)))
        assert list(map(torch.equal, stored, defined)) == [True] * len(stored)


def check_same_inputs(spec: Spec, cache_ratio: float, depth: str, seed: int) -> None:
    """With the inputs of the FULL step and every token chosen, cached steps give eager mode's result."""
    narrow = subject(spec, 0.0, depth)
    if narrow is None:
        return
    found, call = narrow.widened(), random_call(spec, seed)
    want = found.eager(call)
    caches, frontier = found.fill(call)
    results, again = found.run(Mode.CONSERVATIVE, call, *caches, *found.draw(seed).values())
    assert_close(results, want, "CONSERVATIVE")
    assert_close(again, frontier, "the frontier CONSERVATIVE stores")
    if Mode.AGGRESSIVE in found.graphs:
        assert_close(found.run(Mode.AGGRESSIVE, call, *frontier)[0], want, "AGGRESSIVE")
    check_dtypes(narrow, call)


def check_dtypes(found: Subject, call: Mapping[str, Tensor]) -> None:
    """The graphs as captured run too, and give eager mode's dtypes and shapes."""
    want = found.eager(call)
    caches, frontier = found.fill(call)
    results, again = found.run(Mode.CONSERVATIVE, call, *caches, *found.draw(0).values())
    if Mode.AGGRESSIVE in found.graphs:
        results, want = results + found.run(Mode.AGGRESSIVE, call, *again)[0], want + want
    assert [(one.dtype, one.shape) for one in results] == [(one.dtype, one.shape) for one in want]
    assert [(one.dtype, one.shape) for one in again] == [(one.dtype, one.shape) for one in frontier]


def check_by_definition(spec: Spec, cache_ratio: float, depth: str, seed: int) -> None:
    """FULL, two CONSERVATIVE and two AGGRESSIVE steps, each at other latents and another timestep, do what the plan defines."""
    narrow = subject(spec, cache_ratio, depth)
    if narrow is None:
        return
    found = narrow.widened()
    plan, definition = found.plan, found.definition
    calls = [random_call(spec, seed + at) for at in range(5)]
    caches, frontier = found.fill(calls[0])
    step = definition.full(found.inputs(calls[0]))
    for at in (1, 2):
        chosen = found.draw(seed + at)
        step = definition.conservative(found.inputs(calls[at]), step.caches, chosen)
        results, frontier = found.run(Mode.CONSERVATIVE, calls[at], *caches, *chosen.values())
        assert_close(results, step.results, f"results of CONSERVATIVE step {at}")
        assert_close(frontier, stored_by(plan, Mode.CONSERVATIVE, step), f"frontier of CONSERVATIVE step {at}")
        assert_close(caches, list(step.caches.values()), f"caches after CONSERVATIVE step {at}")
    for at in (3, 4) if Mode.AGGRESSIVE in found.graphs else ():
        step = definition.aggressive(found.inputs(calls[at]), step.frontier)
        assert_close(found.run(Mode.AGGRESSIVE, calls[at], *frontier)[0], step.results, f"AGGRESSIVE step {at}")


Check = Callable[[Spec, float, str, int], None]
CHECKS: list[Check] = [check_full, check_same_inputs, check_by_definition]
SHARE = 0.6
"""Of the models, at least so many must be accelerated with a branch recomputed token by token."""


def check_all(spec: Spec, cache_ratio: float, depth: str, seed: int) -> None:
    for check in CHECKS:
        check(spec, cache_ratio, depth, seed)


def over_models(check: Check, examples: int) -> Callable[[], None]:
    """`check` with everything drawn by Hypothesis."""
    drawn = given(specs, ratios, depths, st.integers(0, 9999))(check)
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(drawn)


@pytest.mark.parametrize("check", CHECKS)
def test_few(check: Check) -> None:
    """Always the same models, so that each is captured once for all these tests."""
    seeded(0)(over_models(check, FEW))()


@pytest.mark.slow
def test_many() -> None:
    over_models(check_all, MANY)()


def test_most_models_are_accelerated() -> None:
    """Guards the tests above against a backend that refuses everything."""
    recomputed: list[int] = []

    def count(spec: Spec, cache_ratio: float, depth: str, seed: int) -> None:
        found = subject(spec, cache_ratio, depth)
        recomputed.append(len(refreshed(found.plan)) if found else 0)

    seeded(0)(over_models(count, FEW))()
    assert len(recomputed) == FEW
    assert sum(map(bool, recomputed)) >= SHARE * FEW, recomputed
