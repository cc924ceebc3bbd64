"""What is compared: by the parts of the paper that it stands for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from duca_compile.methods.base import Method
from duca_compile.methods.duca import DuCa
from duca_compile.methods.fora import FORA
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.selectors import SELECTORS
from duca_compile.methods.taylorseer import TaylorSeer

SELECTORS_PART, ORDERS, CYCLES, RATIOS, METHODS, ERRORS = "selectors", "orders", "cycles", "ratios", "methods", "errors"
PARTS = (SELECTORS_PART, ORDERS, CYCLES, RATIOS, METHODS, ERRORS)
N = 4
"""Of Tables I and VI and Figure 2."""
BATCH = 32
"""Images of a generation; fewer where fewer are asked for."""


@dataclass(frozen=True)
class Setting:
    """A method, or none where every step is computed. `fewer`: how many times fewer steps are taken. `batch`: images of
    a generation; a selector's scores are the mean over them."""

    name: str
    method: Method | None = None
    fewer: float = 1.0
    batch: int = BATCH


UNCACHED = Setting("uncached")
ALONE = DuCa(N, order="conservative")
"""Steps that recompute tokens, and full ones."""


def selectors() -> list[Setting]:
    """Of Table I. The conservative steps alone, one image at a time, so that scores are of that image."""
    names = {"random": "random", **{f"{name}{end}": told(name, end) for name in SELECTORS for end in ("", "-min")}}
    found = [Setting(name, replace(ALONE, selector=selector), batch=1) for selector, name in names.items()]
    return [*found, Setting("no token", FORA(N), batch=1)]


def told(name: str, end: str) -> str:
    return f"{name.replace('-', ' ')}, {'lowest' if end else 'highest'}"


def orders() -> list[Setting]:
    """Of Table VI."""
    return [
        Setting("aggressive only", replace(ALONE, order="aggressive")),
        Setting("alternating, conservative first", replace(ALONE, order="conservative-first")),
        Setting("alternating, aggressive first", replace(ALONE, order="aggressive-first")),
        Setting("conservative only", ALONE),
    ]


def cycles() -> list[Setting]:
    """Of Figure 7, at R = 0.9."""
    return [Setting(str(cycle), DuCa(cycle)) for cycle in range(2, 9)]


def ratios() -> list[Setting]:
    """Of Figure 7, at N = 5."""
    return [Setting(str(ratio), DuCa(5, cache_ratio=ratio)) for ratio in (0.5, 0.7, 0.8, 0.9, 0.95)]


def compared() -> Iterator[Setting]:
    """Of Figure 2."""
    yield Setting("FORA", FORA(N))
    yield from (each for each in orders() if each.name != "alternating, aggressive first")
    yield Setting("TaylorSeer", TaylorSeer(N))
    yield Setting("forecast of the stack", ForecastStack(N))
    yield Setting("the same, dense ends", ForecastStack(N, schedule="dense-ends"))
