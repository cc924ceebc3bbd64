"""Our backend beside other caches, plain `torch.compile` and fewer steps, on the same models from the same noise.

    python benchmarks peers
    python benchmarks peers --subjects FLUX --depth 12 --methods 'duca|DBCache'   # one model, deeper, some of the rows
    python benchmarks peers --subjects Wan --add                                  # one more in the report that is there
    python benchmarks peers --width 128 --side 8 --no-inductor --out /tmp/peers   # counts and errors without compiling

Columns, rows and their limits are explained at the head of `benchmarks/results/peers.md`, which this writes, with
`peers.json` beside it. Each row compiles in a process of its own, from an empty cache of Inductor's; then the processes run
whole trajectories in turn. A peer that cannot run a model has a row with the reason. It needs `diffusers` and `cache-dit`:
`make peers` installs them.
"""

import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "CACHE_DIT_LOG_LEVEL": "error",
    "KINETO_LOG_LEVEL": "99",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}

from face.block import Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from face.pages import RESULTS, save
from models.sampled import SUBJECTS, Size
from peers.compare import compare
from peers.methods import Schedule
from peers.report import blocks, introduction, told


def main(arguments: Sequence[str]) -> None:
    asked = parser("peers", __doc__)
    asked.add_argument("--subjects", nargs="+", choices=tuple(SUBJECTS), default=tuple(SUBJECTS))
    asked.add_argument("--methods", default="", help="a pattern: only rows that it is found in, beside torch.compile")
    asked.add_argument("--width", type=int, default=512, help="a multiple of 64")
    asked.add_argument("--depth", type=int, default=6, help="blocks")
    asked.add_argument("--side", type=int, default=16, help="of the grid of tokens")
    asked.add_argument("--batch", type=int, default=8, help="images of the trained model")
    asked.add_argument("--steps", type=int, default=30)
    asked.add_argument("--cycle", type=int, default=5)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--no-inductor", action="store_true", help="for counts and errors; times mean nothing")
    asked.add_argument("--out", type=Path, default=RESULTS)
    asked.add_argument("--add", action="store_true", help="to the models of an earlier run with the same settings")
    given = asked.parse_args(arguments)
    size, schedule = Size(given.width, given.depth, given.side, given.batch), Schedule(given.steps, given.cycle)
    found = origin("peers", arguments)
    settings: dict[str, Any] = {
        "machine": found.machine,
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "cache-dit")},
        "steps": given.steps, "cycle": given.cycle, "full_steps": sum(schedule.full), "rounds": given.rounds,
        "inductor": not given.no_inductor,
    }  # fmt: skip
    subjects = earlier(given.out / "peers.json", settings) if given.add else {}
    for subject in given.subjects:
        rows = compare(subject, given.methods, size, schedule, given.rounds, not given.no_inductor)
        subjects[subject] = {"command": found.command, "rows": rows}
        data = {"settings": settings, "subjects": subjects}
        show(Page("Beside other caches", found, [told(subject, rows)]))
        page = Page("Beside other caches", found, blocks(subjects, found.command), introduction(settings), data)
        save(page, given.out, "peers")


def earlier(written: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The models of a report that was made with the same settings."""
    found: dict[str, Any] = json.loads(written.read_text())
    other = [of for of in settings if found["settings"][of] != settings[of]]
    if other:
        raise SystemExit(f"{written} is of another run: {', '.join(other)} differ")
    return dict(found["subjects"])
