"""All that is measured and counted here, by name.

    python benchmarks                  # the commands
    python benchmarks speed --help     # what one of them measures, and its options

They run the package of the checkout that they lie in.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / folder) for folder in ("benchmarks", "examples", "tests"))]

from face.commands import Command, run

COMMANDS = {
    "speed": Command("how fast and how large: steps, trajectories, host, compiling and memory", "speed.command"),
    "scaling": Command("the speed-up against tokens, depth and batch, measured and predicted", "scaling.command"),
    "quality": Command("how near cached images are to computed ones, on trained models", "quality.command"),
    "count": Command("what is counted and not timed: models, launches, FLOPs and bytes", "count.command"),
    "paper": Command("the tables and figures of the DuCa paper, counted and on a trained model", "paper.command"),
    "serving": Command("the example server under load, and how fast it starts", "serving.command"),
    "peers": Command("beside other caches, plain torch.compile and fewer steps", "peers.command"),
}


def main(arguments: Sequence[str]) -> None:
    run("", COMMANDS, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
