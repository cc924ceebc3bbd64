"""Commands by name: what `python benchmarks` lists, and what some of its commands are made of."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROGRAM = "python benchmarks"


@dataclass(frozen=True)
class Command:
    """`main(arguments)` of this module, which is imported only then."""

    line: str
    module: str


def run(name: str, commands: Mapping[str, Command], arguments: Sequence[str], default: str | None = None) -> None:
    """The command that the first of the arguments names. Where it names none, `default` gets them all."""
    first, *rest = arguments or [""]
    if first in commands:
        importlib.import_module(commands[first].module).main(rest)
        return
    if default is None or first in ("-h", "--help"):
        print(listing(name, commands, default))
    if default is not None and (not first or first.startswith("-")):
        importlib.import_module(commands[default].module).main(list(arguments))
    elif first not in ("", "-h", "--help"):
        sys.exit(f"no command is called {first!r}")


def listing(name: str, commands: Mapping[str, Command], default: str | None) -> str:
    width = max(map(len, commands)) + 2
    lines = [f"  {each:{width}}{command.line}" for each, command in commands.items()]
    told = f"Without a name: {default}.\n" if default else ""
    return f"{PROGRAM} {name}NAME [options]\n\n" + "\n".join(lines) + f"\n\n{told}Each has --help.\n"


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Of the command of this name; `doc` is its module's."""
    return argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
