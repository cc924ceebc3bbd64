"""Published settings: their schedules are the published ones, step for step."""

from collections import Counter

import pytest

from duca_compile.methods.base import even
from duca_compile.methods.duca import DuCa
from duca_compile.methods.published import PUBLISHED
from duca_compile.plan.options import Options

COUNTS = {
    "duca-flux": (50, {"full": 13, "conservative": 18, "aggressive": 19}),
    "toca-flux": (50, {"full": 12, "conservative": 38}),
    "duca-hidream": (50, {"full": 13, "conservative": 12, "aggressive": 25}),
    "duca-opensora": (30, {"full": 12, "conservative": 9, "aggressive": 9}),
    "duca-pixart": (20, {"full": 7, "conservative": 7, "aggressive": 6}),
    "duca-dit": (50, {"full": 20, "conservative": 22, "aggressive": 8}),
    "toca-dit": (50, {"full": 20, "conservative": 30}),
    "delta-dit-flux": (50, {"full": 25, "without-rear": 25}),
}
"""Of how many steps, and how many by each recipe: `full` ones of DiT are those that the published code decides block by
block, too (18 and 2)."""


@pytest.mark.parametrize("name", list(COUNTS))
def test_as_many_steps_by_each_recipe_as_published(name: str) -> None:
    steps, want = COUNTS[name]
    found = Counter(recipe.rstrip("-0123456789") for recipe in even(PUBLISHED[name], steps))
    assert found == want


def test_they_are_presets() -> None:
    for name, method in PUBLISHED.items():
        assert Options.parse({"preset": name}).method == method


def test_the_paper_is_the_method_without_options() -> None:
    """Sections IV-C and V: N = 5, R = 0.9, random tokens, conservative first."""
    method = DuCa()
    assert (method.cycle, method.cache_ratio, method.selector, method.order) == (5, 0.9, "random", "conservative-first")
