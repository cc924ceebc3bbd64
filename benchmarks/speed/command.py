"""How fast and how large: ours beside plain `torch.compile`, on whatever device there is.

    python benchmarks speed                                  # writes results/speed_<machine>_torch-<release>.json and .md
    python benchmarks speed --sections flux dit16            # these once more, into the same files, which keep the others
    python benchmarks speed --device cpu --sections dit2 --depth 28 --cycles 3 --dtype bfloat16
    python benchmarks speed --device cpu --tiny --inner eager --out /tmp/speed    # whether the benchmark itself works

On a GPU: nine sections in less than 6 minutes of an H100, as it is estimated, and which targets they meet; nothing but
torch, rich and sympy is needed. `--sections peers` needs `diffusers` and `cache-dit`, too. On a CPU: full width, few blocks, float32;
FLUX and Wan need `diffusers`. A section that fails is a line of the report, and the next one follows.
Random weights: what they draw means nothing.

Sections of models (flux, dit2, ...): steps by recipe beside plain ones in turn, compile time, caches; on a GPU also whole
trajectories, peaks, launches. machine: rates. correctness: against the CPU. host, guard: what a step costs the host.
peers: other caches. few rows: linear layers over few rows. compile time: from an empty cache, in processes of their own.
memory: what torch's allocator gives over a cycle.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from face.block import Page
from face.commands import parser
from face.draw import show
from face.origin import Origin, origin
from face.pages import RESULTS, save
from speed import report, section, targets
from speed.allocations import OPTIONS, SHAPES
from speed.compile_time import WAYS
from speed.machine import versions
from speed.section import Outcome, Section
from speed.sections import ALL, MINUTES, NAMES, sections
from speed.setting import Setting


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """What is written as JSON."""
    given = parsed(arguments)
    setting = Setting(given.device, given.inner, given.tiny, given.depth, given.cycles, given.rounds, given.dtype)
    of = origin("speed", arguments, given.device)
    folder, name = given.out or RESULTS, f"speed_{slug(of.machine)}_torch-{slug(torch.__version__)}"
    names = given.sections or [each.name for each in sections(setting, given) if given.tiny or given.device in each.on]
    chosen = [each for each in sections(setting, given) if each.name in names]
    done = kept(folder / f"{name}.json", names)
    with torch.no_grad():
        page = run_all(chosen, given.minutes, done, (folder, name), of, setting)
    show(page)
    return dict(page.data)


def slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower())


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    found = parser("speed", __doc__)
    found.add_argument("--sections", nargs="+", metavar="NAME", choices=NAMES, help="; ".join(NAMES))
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    found.add_argument("--device", choices=("cuda", "cpu"), default=usual, help=f"here {usual}")
    found.add_argument("--tiny", action="store_true", help="sizes and steps that only show whether it works")
    found.add_argument("--inner", default="inductor", help="what compiles plain and ours; eager, for a quick look")
    found.add_argument("--minutes", type=float, help=f"in all, but for the imports; {MINUTES} on a GPU, else no limit")
    found.add_argument("--out", type=Path, help="the folder of the results; what tiny sizes give needs another one")
    models = found.add_argument_group("sections of models")
    models.add_argument("--depth", type=int, help="blocks; of FLUX double ones, with twice as many single")
    models.add_argument("--cycles", type=int, help="of 5 steps each, after one to warm up")
    models.add_argument("--rounds", type=int, help="whole trajectories in turn; also of compile time")
    models.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, else float32")
    others = found.add_argument_group("compile time and memory")
    others.add_argument("--ways", nargs="+", metavar="WAY", choices=WAYS, help=f"beside plain: {'; '.join(WAYS)}")
    others.add_argument("--warm", action="store_true", help="each way once more, in a second process")
    others.add_argument("--models", nargs="+", choices=SHAPES)
    others.add_argument("--options", nargs="+", metavar="OPTION", choices=OPTIONS, help="; ".join(OPTIONS))
    found.set_defaults(**vars(ALL))
    given = found.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        found.error("there is no CUDA device")
    if given.out is None and given.tiny:
        found.error("figures of tiny sizes are not for benchmarks/results: name a folder with --out")
    given.minutes = given.minutes or (MINUTES if given.device == "cuda" else math.inf)
    return given


def kept(earlier: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Sections of an earlier run on this machine that are not run once more."""
    if not earlier.exists():
        return []
    return [each for each in json.loads(earlier.read_text())["sections"] if each["name"] not in names]


def run_all(
    chosen: Sequence[Section], minutes: float, earlier: list[dict[str, Any]], place: tuple[Path, str], of: Origin, setting: Setting
) -> Page:  # fmt: skip
    """Writes both files after every part of every section."""
    console, began = Console(stderr=True, highlight=False, markup=False), time.perf_counter()
    page = page_of(earlier, of, setting)
    done: list[Outcome] = []

    def write(unfinished: Outcome) -> None:
        nonlocal page
        page = page_of([*earlier, *map(asdict, (*done, unfinished))], of, setting)
        save(page, *place)

    for each in chosen:
        left = 60 * minutes - (time.perf_counter() - began)
        outcome = section.run(each, left, write, of.command, 2 if setting.on_gpu else math.inf)
        done.append(outcome)
        said = outcome.error or outcome.left_out or "done"
        console.print(f"{time.perf_counter() - began:4.0f} s, {outcome.seconds:.0f} of them for {each.name}: {said}")
    return page


def page_of(sections: Sequence[dict[str, Any]], of: Origin, setting: Setting) -> Page:
    parts = {each["name"]: each["parts"] for each in sections}
    met = [{**asdict(verdict), "met": verdict.met} for verdict in targets.verdicts(parts)]
    data = {"versions": versions(setting), "sections": sections, "targets": met}
    return Page("Speed", of, list(report.blocks(sections, of.command, setting.on_gpu)), report.INTRODUCTION, data)
