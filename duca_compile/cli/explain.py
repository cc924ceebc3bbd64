"""`duca explain`: what the backend would do with a model."""

import sys
from argparse import ArgumentParser, Namespace

from duca_compile.cli.arguments import add_json, add_options, aside, check_writable, options_of
from duca_compile.cli.subject import add_model, load
from duca_compile.report.explain import STEPS, explain_call

ABOUT = "what the backend would do with a model: how much faster, what is kept, what is refused"


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a generation (default: %(default)s)")
    parser.add_argument("--html", metavar="PATH", help="also write a page with pictures")
    add_options(parser)
    add_json(parser)


def run(given: Namespace) -> int:
    """1 where the model is not accelerated."""
    check_writable(given.html)
    options = options_of(given)
    with aside(given):
        subject = load(given, without_weights=True)
        found = explain_call(subject.model, subject.args, subject.kwargs, options, given.steps)
    if given.html:
        found.to_html(given.html)
    if given.json:
        print(found.to_json())
    elif sys.stdout.isatty():
        found.show()
    else:
        print(found)
    return int(found.verdict.outcome == "not")
