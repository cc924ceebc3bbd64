"""The tables and figures of the paper (arXiv 2412.18911)."""

from collections.abc import Sequence

from face.commands import Command, run

COMMANDS = {
    "flops": Command("FLOPs of our graphs at the published sizes, beside the printed ones", "paper.flops.command"),
    "quality": Command("its tables and figures of quality, on the trained example model", "paper.quality.command"),
}


def main(arguments: Sequence[str]) -> None:
    run("paper ", COMMANDS, arguments)
