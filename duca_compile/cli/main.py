"""`duca` and `python -m duca_compile`: which command, and how it ends."""

import os
import sys
import textwrap
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import nullcontext
from io import TextIOWrapper

import duca_compile
from duca_compile import torch_private
from duca_compile.cli import bench, doctor, explain, tune, zoo
from duca_compile.cli.families import FAMILIES
from duca_compile.cli.subject import HOW
from duca_compile.cli.unusable import Unusable
from duca_compile.methods.check import OptionError
from duca_compile.refusal import Refused

COMMANDS = {"explain": explain, "bench": bench, "tune": tune, "doctor": doctor, "zoo": zoo}
WORKED, NEGATIVE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: the third where there is no answer, the last as shells have it. Each command says what a negative one of
it is."""
TRACEBACK = "DUCA_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of the user's that its encoding does not know
    try:
        with nullcontext() if os.environ.get(TRACEBACK) else torch_private.frames_unprinted():
            code = int(COMMANDS[given.command].run(given))
        sys.stdout.flush()
        return code
    except (Unusable, OptionError) as error:
        return _failed(error, UNUSABLE)
    except Refused as refused:
        return _failed(refused, NEGATIVE)
    except BrokenPipeError:  # as of `| head`; what is left to be written goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WORKED
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    except (Exception, SystemExit) as error:
        return _raised(error)


def _failed(error: Exception | str, code: int) -> int:
    print(f"duca: {error}", file=sys.stderr)
    return code


def _raised(error: BaseException) -> int:
    """By the user's model, or where torch or this package cannot go on: its kind and its first line."""
    root = torch_private.without_dynamo(error)
    where = f"{TRACEBACK}=1 shows where"
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
        where = "see above"
    told = "".join(f": {line}" for line in str(root).strip().splitlines()[:1])
    print(f"duca: {type(root).__name__}{told} ({where})", file=sys.stderr)
    return UNUSABLE


def parser() -> ArgumentParser:
    found = ArgumentParser("duca", description="Caches diffusion transformers under torch.compile.")
    found.add_argument("--version", action="version", version=f"duca-compile {duca_compile.__version__}")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    classes = "".join(f"                    {name}\n" for name in FAMILIES)
    for name, command in COMMANDS.items():
        named = commands.add_parser(
            name,
            help=command.ABOUT,
            description=textwrap.fill(f"{command.ABOUT[0].upper()}{command.ABOUT[1:]}.", 78),
            epilog=HOW + classes if name != "doctor" else None,
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.add_arguments(named)
    return found
