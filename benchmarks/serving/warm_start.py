"""How long a new process takes to its first image, without and with what an earlier one has left of its compiling.

    python benchmarks serving warm-start               # the trained example, under plain torch.compile and the default
    python benchmarks serving warm-start --rounds 3

Each start is a process of its own. *cold*: with an empty cache of Inductor's; *artifacts*: with another empty one, and
the file that the cold one has written by `torch.compiler.save_cache_artifacts`; *disk*: with the cache of the cold one.
Seconds count from after the imports to the end of a generation of 50 steps, in which every graph is used; *running* is
the same generation once more. *Libraries* are those that the start has built by the C++ compiler. Medians over the rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from face import pages
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from sampling import trained_dit
from server import warm_up

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "duca, default": {"backend": "duca"},
    "duca, method=duca": {"backend": "duca", "options": {"method": "duca"}},
}
STARTS = {"cold": "one", "artifacts": "other", "disk": "one"}
"""The folders of their caches."""


def main(arguments: Sequence[str]) -> None:
    asked = parser("serving warm-start", __doc__)
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--way", choices=tuple(WAYS), help="what one of the processes runs")
    asked.add_argument("--file", type=Path, help="its artifacts")
    given = asked.parse_args(arguments)
    if given.way:
        print(json.dumps(start(given.way, given.file)))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {(way, how): [] for way in WAYS for how in STARTS}
    for _ in range(given.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                for how in STARTS:
                    found[way, how].append(_in_a_process(way, how, Path(folder)))
    show(Page("Warm start", origin("serving warm-start", arguments), [table(found)]))


def _in_a_process(way: str, how: str, folder: Path) -> dict[str, float]:
    own = [str(pages.ROOT / "benchmarks"), "serving", "warm-start"]
    command = [sys.executable, *own, "--way", way, "--file", str(folder / "artifacts")]
    cache = folder / STARTS[how]
    before = _libraries(cache)
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "libraries": _libraries(cache) - before}


def _libraries(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.so"))


def start(way: str, file: Path) -> dict[str, float]:
    """Seconds of each part, and the size of the file."""
    compiled = torch.compile(trained_dit(), **WAYS[way])
    began = time.perf_counter()
    warm_up(compiled, file)
    first = time.perf_counter()
    warm_up(compiled)
    return {"ready": first - began, "running": time.perf_counter() - first, "bytes": file.stat().st_size}


def table(found: dict[tuple[str, str], list[dict[str, float]]]) -> Block:
    rows = []
    for (way, how), runs in found.items():
        ready, running, built, size = (
            statistics.median(run[of] for run in runs) for of in ("ready", "running", "libraries", "bytes")
        )
        rows.append((way, how, f"{ready:.1f}", f"{running:.1f}", f"{built:.0f}", f"{size / 2**20:.1f}"))
    headings = ("way", "start", "seconds to the first image", "of it running", "libraries", "MiB of artifacts")
    return Block("Starts", headings, rows, words=(0, 1))
