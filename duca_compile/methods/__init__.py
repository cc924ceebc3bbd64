"""Caching methods, each one small value in a file of its own. A new one is a file, and a line in `METHODS`."""

from duca_compile.methods.base import Method
from duca_compile.methods.duca import DuCa
from duca_compile.methods.fora import FORA
from duca_compile.methods.forecast_stack import ForecastStack
from duca_compile.methods.taylorseer import TaylorSeer

METHODS: dict[str, type[Method]] = {
    "duca": DuCa,
    "fora": FORA,
    "taylorseer": TaylorSeer,
    "forecast-stack": ForecastStack,
}
"""By the names that the option `method` takes."""
