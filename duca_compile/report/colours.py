"""One colour for each action and each recipe, in the picture, the strip and their legends."""

from collections.abc import Iterable

from duca_compile.methods.base import FULL, Action

ACTIONS = {
    Action.COMPUTE: ("#2f5d8a", "#ffffff", "computed"),
    Action.REFRESH: ("#f3c56b", "#3a2b05", "a few tokens recomputed, the rest from the cache"),
    Action.FORECAST: ("#8ccbb0", "#0d3527", "forecast from what was stored"),
    Action.REUSE: ("#c9b6e4", "#2e1b4d", "taken as it was stored last"),
    Action.SKIP: ("#f4f5f7", "#6b7280", "skipped; at the ring the stream goes on from the cache"),
}
"""Fill, ink and what it means."""
_CACHED = ("#9cc4ea", "#f0a08a", "#d8cf7c", "#c8a27c", "#b5bcc7")


def of_recipes(names: Iterable[str]) -> dict[str, str]:
    """Dark where all is computed, light where it is cached, in the order of the names."""
    cached = [name for name in dict.fromkeys(names) if name != FULL]
    return {FULL: ACTIONS[Action.COMPUTE][0]} | {name: _CACHED[at % len(_CACHED)] for at, name in enumerate(cached)}
