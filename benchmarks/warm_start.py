"""How long a new process takes to its first image, without and with what an earlier one has left of its compiling.

    python benchmarks/warm_start.py                  # the trained example, under plain torch.compile and the default
    python benchmarks/warm_start.py --rounds 3

Each start is a process of its own. *cold*: with an empty cache of Inductor's; *artifacts*: with another empty one, and
the file that the cold one has written by `torch.compiler.save_cache_artifacts`; *disk*: with the cache of the cold one.
Seconds count from after the imports to the end of a generation of 50 steps, in which every graph is used; *running* is
the same generation once more. *Libraries* are those that the start has built by the C++ compiler. Medians over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import torch
from rich.console import Console
from rich.table import Table

from sampling import trained_dit
from server import warm_up

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "duca, default": {"backend": "duca"},
    "duca, method=duca": {"backend": "duca", "options": {"method": "duca"}},
}
STARTS = {"cold": "one", "artifacts": "other", "disk": "one"}
"""The folders of their caches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=tuple(WAYS), help="what one of the processes runs")
    parser.add_argument("--file", type=Path, help="its artifacts")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(start(given.way, given.file)))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {(way, how): [] for way in WAYS for how in STARTS}
    for _ in range(given.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                for how in STARTS:
                    found[way, how].append(_in_a_process(way, how, Path(folder)))
    Console(width=100).print(table(found))


def _in_a_process(way: str, how: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--file", str(folder / "artifacts")]
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


def table(found: dict[tuple[str, str], list[dict[str, float]]]) -> Table:
    made = Table(title=f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}", box=None)
    for heading in ("way", "start", "seconds to the first image", "of it running", "libraries", "MiB of artifacts"):
        made.add_column(heading, justify="left" if heading in ("way", "start") else "right")
    for (way, how), runs in found.items():
        ready, running, built, size = (
            statistics.median(run[of] for run in runs) for of in ("ready", "running", "libraries", "bytes")
        )
        made.add_row(way, how, f"{ready:.1f}", f"{running:.1f}", f"{built:.0f}", f"{size / 2**20:.1f}")
    return made


if __name__ == "__main__":
    main()
