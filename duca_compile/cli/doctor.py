"""`duca doctor`: what this machine has of what the backend needs and can use."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from duca_compile.cli.arguments import add_json, print_json
from duca_compile.cli.checks import CHECKS, Check
from duca_compile.report.text import lines, plain, shown, written

ABOUT = "say whether torch, Inductor, a compiler and a GPU are there and work, and how to get what is not"
MARKS = {"ok": "ok", "absent": "--", "broken": "!!"}


def add_arguments(parser: ArgumentParser) -> None:
    add_json(parser)


def run(given: Namespace) -> int:
    """1 where something is broken that the backend needs."""
    found = [check() for check in CHECKS]
    works = all(check.state != "broken" for check in found)
    if given.json:
        print_json({"works": works, "checks": [asdict(check) for check in found]})
    else:
        print(_text(found, works))
    return int(not works)


def _text(found: Sequence[Check], works: bool) -> str:
    told = []
    for check in found:
        told += [(f"{MARKS[check.state]} {check.name}", check.found)]
        told += [("", f"-> {check.advice}")] if check.advice else []
    console = plain(shown().width)
    console.print(lines(told))
    console.print(Text("\nThe backend works here." if works else "\nThe backend does not work here: see !! above."))
    return written(console)
