"""`duca tune`: where full steps should lie, by generating with the user's own code."""

import importlib.util
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from torch import nn

from duca_compile.cli.arguments import add_json, add_options, aside, check_writable, options_of, print_json
from duca_compile.cli.families import FAMILIES
from duca_compile.cli.named import named
from duca_compile.cli.subject import is_path, made
from duca_compile.cli.unusable import Unusable
from duca_compile.tuning.tune import tune
from duca_compile.tuning.tuned import Trial, Tuned

ABOUT = "find better full steps for a model, by generating with your own code"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="module:name of a module with trained weights, or of a factory as below")
    parser.add_argument("generate", help="module:function that takes the compiled model and returns images")
    parser.add_argument(
        "--speedups", type=float, nargs="+", default=[3.0, 5.0, 7.0], metavar="TIMES", help="fewer FLOPs to aim at"
    )
    parser.add_argument(
        "--refine", type=int, default=16, metavar="CALLS", help="small moves to try at each of these, from the best on"
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
    _check(given)
    options = options_of(given)
    wanted = {"speedups": given.speedups, "refine": given.refine, "progress": not given.json}
    with aside(given):
        generate, model = named(given.generate), _model(given.model)
        found = tune(generate, model, options=options, **wanted)
    if given.json:
        print_json(_told(found))
    else:
        print(found)
    if given.save:
        found.save(given.save, given.speedup, given.quality)
        _say_if_worse(found, given.quality)
    if given.draw:
        found.draw(given.draw)
    return 0


def _check(given: Namespace) -> None:
    """What would end a run after all of its generations."""
    check_writable(given.save, given.draw)
    if given.draw and importlib.util.find_spec("matplotlib") is None:
        raise Unusable("--draw needs matplotlib: pip install matplotlib")
    if not given.save and (given.speedup is not None or given.quality is not None):
        raise Unusable("--speedup and --quality choose what is saved: give --save PATH, too")
    if not all(1 < speedup < float("inf") for speedup in given.speedups):
        raise Unusable(f"--speedups must be numbers above 1, not {' '.join(map(str, given.speedups))}")
    if given.refine < 0:
        raise Unusable(f"--refine is a number of calls, not {given.refine}")


def _say_if_worse(found: Tuned, quality: float | None) -> None:
    saved = found.at(quality=quality).quality
    if quality is not None and saved < quality:
        told = f"no trial is as good as {quality:g}: the best one is saved, of {saved:.2f}"
        print(f"duca: {found.metric}: {told}", file=sys.stderr)


def _model(spec: str) -> nn.Module:
    if is_path(spec) or spec in FAMILIES:
        raise Unusable(f"{spec} names no trained weights, which a schedule is tuned for: give module:name")
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
