"""`torch.compile(model, backend="duca")` makes a diffusion transformer run most of its denoising steps from a cache."""

from duca_compile import releases  # noqa: F401

# isort: split
from duca_compile.backend import duca
from duca_compile.generations.sessions import session
from duca_compile.methods.check import OptionError
from duca_compile.methods.duca import Mode
from duca_compile.plan.options import Options
from duca_compile.programs.package import load
from duca_compile.programs.program import Program
from duca_compile.programs.rewrite import Rewritten, rewrite
from duca_compile.refusal import DucaWarning, Refused
from duca_compile.report.counts import Stats
from duca_compile.report.explain import Report, explain
from duca_compile.report.stats import reset, stats
from duca_compile.runtime.timing import timing
from duca_compile.tuning.tune import tune
from duca_compile.tuning.tuned import Tuned

__version__ = "0.1.0"
__all__ = [
    "DucaWarning",
    "Mode",
    "OptionError",
    "Options",
    "Program",
    "Refused",
    "Report",
    "Rewritten",
    "Stats",
    "Tuned",
    "duca",
    "explain",
    "load",
    "reset",
    "rewrite",
    "session",
    "stats",
    "timing",
    "tune",
]
