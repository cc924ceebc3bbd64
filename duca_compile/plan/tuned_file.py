"""The file in which `tune` leaves what it found, and which the option `tuned` names."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from duca_compile.analysis.facts import Facts
from duca_compile.methods import METHODS, name_of
from duca_compile.methods.base import Method
from duca_compile.methods.check import OptionError

_FORMAT = 1


@dataclass(frozen=True)
class TunedFile:
    """A `method` for generations of `steps` steps of a model that looks so (`portrait`); `found` is for people."""

    method: Method
    steps: int
    portrait: str
    found: Mapping[str, Any]

    def write(self, path: Path) -> None:
        assert is_dataclass(self.method)
        own = {"method": name_of(self.method), **asdict(self.method)}
        told = {"format": _FORMAT, "model": self.portrait, "steps": self.steps, "options": own, "found": self.found}
        path.write_text(json.dumps(told, indent=1) + "\n")


def read(path: str | Path) -> TunedFile:
    """Raises `OptionError` where there is no such file, or another one."""
    try:
        told = json.loads(Path(path).read_text())
        if told["format"] != _FORMAT:
            raise OptionError(f"tuned: {path} is of format {told['format']}, not {_FORMAT}; tune again")
        options = dict(told["options"])
        method = METHODS[options.pop("method")](**options)
        return TunedFile(method, int(told["steps"]), str(told["model"]), told["found"])
    except OSError as error:
        raise OptionError(f"tuned: {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"tuned: {path} is not a file that duca_compile.tune has written ({error!r})") from None


def portrait(facts: Facts) -> str:
    """What a model looks like, whatever the sizes of a call."""
    widths = ", ".join(str(stream.shape[-1]) for stream in facts.streams)
    return f"{len(facts.branches)} branches in {len(facts.blocks)} blocks; streams: {widths} wide"
