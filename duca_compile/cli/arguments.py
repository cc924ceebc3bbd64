"""Arguments that several commands take."""

import ast
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from duca_compile.cli.unusable import Unusable
from duca_compile.plan.options import Options


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of torch.compile, such as preset=fast or cache_dtype=bfloat16; as often as you like",
    )


def options_of(given: Namespace) -> dict[str, Any]:
    """For `torch.compile`. Values are Python's where they can be read so, else texts.

    Raises `OptionError` for options that make no sense.
    """
    found: dict[str, Any] = {}
    for each in given.option:
        name, equals, value = each.partition("=")
        if not equals:
            raise Unusable(f"-o {each}: give NAME=VALUE")
        found[name] = _read(value)
    Options.parse(found)
    return found


def _read(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def check_writable(*paths: str | None) -> None:
    """Before there is anything to write. Raises `Unusable` where a file cannot be."""
    for path in paths:
        if path is not None:
            _check_writable(Path(path))


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise Unusable(f"{path} cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise Unusable(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Unusable(f"{path} cannot be written: permission denied")


@contextmanager
def aside(given: Namespace) -> Iterator[None]:
    """Around what runs the user's code. Standard output is the JSON's alone, where that is asked for: what is printed
    meanwhile goes to stderr."""
    with redirect_stdout(sys.stderr) if given.json else nullcontext():
        yield


def print_json(found: Any) -> None:
    print(json.dumps(found, indent=2))
