"""`duca tune`: where full steps should lie, by generating with the user's own code."""

from argparse import ArgumentParser, Namespace
from typing import Any

from torch import nn

from duca_compile.cli.arguments import add_json, add_options, options_of, print_json
from duca_compile.cli.named import named
from duca_compile.cli.subject import made
from duca_compile.cli.unusable import Unusable
from duca_compile.tuning.tune import tune
from duca_compile.tuning.tuned import Trial, Tuned

ABOUT = "find better full steps for a model, by generating with your own code"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="module:name of a module, or of a factory as below")
    parser.add_argument("generate", help="module:function that takes the compiled model and returns images")
    parser.add_argument(
        "--speedups", type=float, nargs="+", default=[3.0, 5.0, 7.0], metavar="TIMES", help="fewer FLOPs to aim at"
    )
    parser.add_argument("--save", metavar="PATH", help='the file for the option "tuned"')
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--speedup", type=float, help="save the best of about this (default: the largest)")
    chosen.add_argument("--quality", type=float, help="save the cheapest of at least this, in dB")
    parser.add_argument("--draw", metavar="PATH", help="the curve as a PNG (needs matplotlib)")
    add_options(parser)
    add_json(parser)


def run(given: Namespace) -> int:
    """1 where nothing can be tuned."""
    options, generate = options_of(given), named(given.generate)
    try:
        found = tune(generate, _model(given.model), speedups=given.speedups, options=options, progress=not given.json)
    except ValueError as error:
        raise Unusable(str(error)) from error
    if given.save:
        found.save(given.save, given.speedup, given.quality)
    if given.draw:
        found.draw(given.draw)
    if given.json:
        print_json(_told(found))
    else:
        print(found)
    return 0


def _model(spec: str) -> nn.Module:
    found = named(spec)
    if not isinstance(found, nn.Module):
        found = found() if callable(found) else found
    if isinstance(found, nn.Module):
        return found.eval()
    return made(spec).model.eval()


def _told(found: Tuned) -> dict[str, Any]:
    trials = [_trial(trial, trial in found.best) for trial in found.trials]
    return {"steps": found.steps, "model": found.portrait, "metric": found.metric, "trials": trials}


def _trial(trial: Trial, best: bool) -> dict[str, Any]:
    return {
        "placed": trial.placed,
        "forecast": trial.forecast,
        "full_steps": trial.full_steps,
        "speedup": trial.speedup,
        "quality": trial.quality,
        "schedule": trial.method.schedule,
        "best": best,
    }
