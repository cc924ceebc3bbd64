"""How the share of tokens that a `REFRESH` recomputes varies over steps, layers and kinds of branches."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from duca_compile.analysis.facts import Facts


@dataclass(frozen=True)
class Ratios:
    """Factors of `1 - R`; the product is held between 0 and 1.

    `steps` (a, b): `a + b * left`, with `left` the share of the steps that are still to come after this one. `layers`
    (a, b): `a + b * l / 27` in the l-th block of its stack, counted from 0; 27 whatever the depth, as in the published
    code. The others are by kind of branch, and by how many streams the branches of its block change.
    """

    steps: tuple[float, float] = (1.0, 0.0)
    layers: tuple[float, float] = (1.0, 0.0)
    mlp: float = 1.0
    cross_attention: float = 1.0
    two_streams: float = 1.0
    one_stream: float = 1.0

    def share(self, fresh: Fraction, at: int, facts: Facts, left: float) -> Fraction:
        """Of the tokens of the branch at this position, where `fresh` is `1 - R`."""
        kind = {"MLP": self.mlp, "cross-attention": self.cross_attention}.get(facts.branches[at].kind, 1.0)
        block = next(block for block in facts.blocks if at in block)
        streams = {facts.branches[each].stream for each in block}
        of_block = self.one_stream if len(streams) == 1 else self.two_streams
        over_steps = self.steps[0] + self.steps[1] * left
        over_layers = self.layers[0] + self.layers[1] * layer_of(facts, at) / 27
        factor = over_steps * over_layers * kind * of_block
        return min(max(fresh * exact(factor), Fraction(0)), Fraction(1))


RATIOS: Mapping[str, Ratios] = {
    "uniform": Ratios(),
    "dit": Ratios(steps=(3.0, -4.0), layers=(0.8, 0.4), mlp=2.5, cross_attention=0.0),
    "pixart": Ratios(steps=(0.19, 1.8), layers=(1.6, -1.2), mlp=1.6, cross_attention=0.6),
    "flux": Ratios(layers=(1.5, -1.0), two_streams=0.4, one_stream=1.6),
    "hidream": Ratios(two_streams=0.4, one_stream=1.6),
    "opensora": Ratios(mlp=1.495, cross_attention=0.0),
}
"""Those of the published code, by the name that the option `ratios` takes."""


def exact(number: float) -> Fraction:
    """The fraction that the decimal number stands for: of 0.9, 9/10."""
    return Fraction(number).limit_denominator(1_000_000)


def layer_of(facts: Facts, at: int) -> int:
    """The number of the branch's block among those of its stack: the blocks of one structure, side by side."""
    made = [tuple(facts.branches[branch].fingerprint for branch in block) for block in facts.blocks]
    own = next(number for number, block in enumerate(facts.blocks) if at in block)
    first = own
    while first and made[first - 1] == made[own]:
        first -= 1
    return own - first
