"""`module:name`, as the command line takes it."""

import importlib
import os
import sys
from typing import Any

from duca_compile.cli.unusable import Unusable


def named(spec: str) -> Any:
    """The object `name` of `module`, which is also looked for in the current folder.

    Raises `Unusable` where there is none. What the module itself raises passes.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise Unusable(f"{spec!r} names nothing: give module:name, as in models:flux")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unusable(f"{spec}: {error}; modules are looked for in {os.getcwd()}, too") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise Unusable(f"{spec}: {module} has no {name!r}")
        found = getattr(found, part)
    return found
