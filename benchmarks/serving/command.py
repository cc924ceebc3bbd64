"""The example server under load, and how long it takes to start."""

from collections.abc import Sequence

from face.commands import Command, run

COMMANDS = {
    "load": Command("requests from several clients over the loopback", "serving.load"),
    "warm-start": Command("seconds to the first image of a new process", "serving.warm_start"),
}


def main(arguments: Sequence[str]) -> None:
    run("serving ", COMMANDS, arguments, default="load")
