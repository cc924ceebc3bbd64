"""`duca zoo`: several models at once, a line each."""

import gc
import json
from argparse import ArgumentParser, Namespace
from typing import Any

import torch
from rich.text import Text

from duca_compile.cli.arguments import add_json, add_options, aside, options_of, print_json
from duca_compile.cli.families import FAMILIES
from duca_compile.cli.subject import subject
from duca_compile.report.explain import STEPS, Report, explain_call
from duca_compile.report.text import plain, shown, table, written
from duca_compile.report.units import bytes_told

ABOUT = "explain several models, a line each: transformers of diffusers with few blocks, or yours"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", help="named as below (default: all classes)")
    parser.add_argument("--layers", type=int, default=2, help="blocks of the first sort (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a generation (default: %(default)s)")
    add_options(parser)
    add_json(parser)


def run(given: Namespace) -> int:
    """1 where one of the models is not accelerated."""
    options = options_of(given)
    with aside(given):
        found = {name: _report(name, given, options) for name in given.models or FAMILIES}
    if given.json:
        print_json([{"name": name, **json.loads(each.to_json())} for name, each in found.items()])
    else:
        print(_text(found))
    return int(any(each.verdict.outcome == "not" for each in found.values()))


def _report(name: str, given: Namespace, options: dict[str, Any]) -> Report:
    torch.compiler.reset()
    gc.collect()
    each = subject(name, {"layers": given.layers}, torch.device("meta"))
    return explain_call(each.model, each.args, each.kwargs, options, given.steps)


def _text(found: dict[str, Report]) -> str:
    made = table("model", "accelerated", "FLOPs", "blocks", "branches", "cache", left=("model", "accelerated"))
    for name, each in found.items():
        made.add_row(Text(name), *_cells(each))
    console = plain(shown().width)
    console.print(made)
    for name, each in found.items():
        for reason in each.verdict.refused:
            console.print(Text(f"{name}: {reason}"))
    return written(console)


def _cells(found: Report) -> tuple[Any, ...]:
    plans = [graph.plan for graph in found.graphs if graph.plan is not None]
    blocks, branches = sum(len(plan.facts.blocks) for plan in plans), sum(len(plan.branches) for plan in plans)
    saved = found.verdict.speedup
    told = "-" if saved is None else f"{saved:.2f}x"
    return found.verdict.outcome, told, str(blocks), str(branches), bytes_told(found.verdict.cache_bytes)
