"""Caching methods, each one small value in a file of its own. A new one is a file, and a line in `METHODS`."""

from duca_compile.methods.base import Method
from duca_compile.methods.delta_dit import DeltaDiT
from duca_compile.methods.duca import DuCa
from duca_compile.methods.first_block import FirstBlock
from duca_compile.methods.fora import FORA
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.magcache import MagCache
from duca_compile.methods.pab import PAB
from duca_compile.methods.published import PUBLISHED
from duca_compile.methods.taylorseer import TaylorSeer
from duca_compile.methods.teacache import TeaCache
from duca_compile.methods.tgate import TGate
from duca_compile.methods.toca import ToCa

METHODS: dict[str, type[Method]] = {
    "duca": DuCa,
    "toca": ToCa,
    "fora": FORA,
    "taylorseer": TaylorSeer,
    "forecast-stack": ForecastStack,
    "delta-dit": DeltaDiT,
    "magcache": MagCache,
    "pab": PAB,
    "t-gate": TGate,
    "teacache": TeaCache,
    "first-block": FirstBlock,
}
"""By the names that the option `method` takes."""

PRESETS: dict[str, Method] = {
    "quality": ForecastStack(cycle=3, schedule="dense-ends"),
    "balanced": ForecastStack(cycle=5, schedule="dense-ends"),
    "fast": ForecastStack(cycle=7, schedule="dense-ends"),
    **PUBLISHED,
}
"""By the names that the option `preset` takes: ours, of about 3, 5 and 7 times fewer FLOPs, and published settings."""
DEFAULT = PRESETS["balanced"]


def name_of(method: Method) -> str:
    """The name that the option `method` takes for methods of this kind."""
    return next((name for name, kind in METHODS.items() if kind is type(method)), type(method).__name__)
