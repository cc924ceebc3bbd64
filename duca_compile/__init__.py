"""`torch.compile(model, backend="duca")` makes a diffusion transformer run most of its denoising steps from a cache."""

from duca_compile import releases as releases

# isort: split
from duca_compile.backend import duca as duca
from duca_compile.explain import Report as Report
from duca_compile.explain import explain as explain
from duca_compile.modes import Mode as Mode
from duca_compile.options import OptionError as OptionError
from duca_compile.options import Options as Options
from duca_compile.refusal import DucaWarning as DucaWarning
from duca_compile.refusal import Refused as Refused
from duca_compile.sessions import session as session
from duca_compile.stats import Stats as Stats
from duca_compile.stats import reset as reset
from duca_compile.stats import stats as stats

__version__ = "0.1.0"
