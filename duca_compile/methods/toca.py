"""ToCa (arXiv 2410.05317): between full steps, the tokens that matter most are recomputed, as scores tell them."""

from dataclasses import dataclass

from duca_compile.methods.duca import DuCa


@dataclass(frozen=True)
class ToCa(DuCa):
    """Options and their meaning are DuCa's."""

    order: str = "conservative"
    selector: str = "attention"
    staleness: float = 0.25
