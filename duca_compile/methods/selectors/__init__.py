"""Which tokens are recomputed, each selector in a file of its own. A new one is a file, and a line in `SELECTORS`."""

from collections.abc import Mapping

from duca_compile.methods.selectors.attention import Attention
from duca_compile.methods.selectors.base import Selector
from duca_compile.methods.selectors.norms import Norms
from duca_compile.methods.selectors.similarity import Similarity

SELECTORS: Mapping[str, Selector] = {
    "attention": Attention(),
    "key-norm": Norms(keys=True),
    "value-norm": Norms(keys=False),
    "similarity": Similarity(),
}
"""By name; the tokens of the highest scores are recomputed, of the lowest where `-min` stands after the name."""
RANDOM = "random"
NAMES = (RANDOM, *(name + end for name in SELECTORS for end in ("", "-min")))


def selector(name: str) -> tuple[Selector, float] | None:
    """And the sign that its scores count with; None where the host draws at random."""
    return None if name == RANDOM else (SELECTORS[name.removesuffix("-min")], -1.0 if name.endswith("-min") else 1.0)
