"""What is counted and not timed."""

from collections.abc import Sequence

from face.commands import Command, run

COMMANDS = {
    "models": Command("what is found in every model of the zoo, and the FLOPs of a cached step", "count.models"),
    "launches": Command("what Inductor would launch on an H100, without one", "count.launches"),
    "flux-dev": Command("FLOPs and bytes of FLUX.1-dev at 1024 x 1024, foretold", "count.flux_dev"),
}


def main(arguments: Sequence[str]) -> None:
    run("count ", COMMANDS, arguments)
