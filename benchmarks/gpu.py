"""What all this does on a GPU, in one command of 6 minutes on an H100, and which targets it meets.

    python benchmarks/gpu.py                               # writes results/gpu_<card>_<torch>.json and .md
    python benchmarks/gpu.py --only flux dit16             # these sections once more, into the same files
    python benchmarks/gpu.py --device cpu --tiny --out /tmp/gpu     # whether the benchmark itself works

Needs nothing but torch, rich and sympy; `peers` needs `diffusers` and `cache-dit`, and is left out without. A section
that fails is a line of the report, and the next one follows. Random weights: what they draw means nothing.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console

from on_gpu import report, section, targets
from on_gpu.correctness import correctness
from on_gpu.host import host
from on_gpu.machine import card, rates, versions
from on_gpu.peers import peers
from on_gpu.section import Outcome, Section
from on_gpu.setting import Setting
from on_gpu.speed import speed

RESULTS = Path(__file__).parent / "results"


def sections(setting: Setting) -> tuple[Section, ...]:
    """In the order of their worth: where time runs out, the last ones are left out."""
    shapes = setting.measured
    dit2, short = shapes["dit2"], shapes["short flux"]
    cycles = {"reduce-overhead": 6, "max-autotune-no-cudagraphs": 3}
    tuned = {mode: partial(speed, setting, mode=mode, cycles=count) for mode, count in cycles.items()}
    return (
        Section("machine", "Rates of this machine", 6, partial(rates, setting)),
        Section("correctness", "Largest relative error against float32 on the CPU", 45, partial(correctness, setting)),
        Section("flux", "FLUX at 1024 x 1024", 50, partial(speed, setting, shapes["flux"])),
        Section("dit2 graphs", "DiT-XL/2, batch 2, reduce-overhead", 50, partial(tuned["reduce-overhead"], dit2)),
        Section("dit16", "DiT-XL/2, batch 16", 50, partial(speed, setting, shapes["dit16"])),
        Section("host", "Host, beside its graph: microseconds a step", 15, partial(host, setting, dit2)),
        Section("dit2", "DiT-XL/2, batch 2", 45, partial(speed, setting, dit2)),
        Section("wan", "Wan 1.3B, 81 frames of 480 x 832", 40, partial(speed, setting, shapes["wan"], cycles=2)),
        Section("peers", "diffusers' FLUX beside other caches", 90, partial(peers, setting)),
        Section("autotune", "FLUX, max-autotune-no-cudagraphs", 60, partial(tuned["max-autotune-no-cudagraphs"], short)),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    given = parsed(arguments)
    setting = Setting(given.device, given.inner, given.tiny)
    path = (given.out or RESULTS) / f"gpu_{slug(card(setting))}_torch-{slug(torch.__version__)}"
    result: dict[str, Any] = {"machine": versions(setting), "sections": kept(path, given.only), "targets": []}
    with torch.no_grad():
        chosen = [each for each in sections(setting) if each.name in (given.only or [each.name])]
        run_all(chosen, given.minutes, result, path, 2 if setting.on_gpu else math.inf)
    report.show(result)
    return result


def slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower())


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes and steps that only show whether it works")
    parser.add_argument("--inner", default="inductor", help="what compiles plain and ours; eager, for a quick look")
    parser.add_argument("--minutes", type=float, default=5.75, help="in all, but for the imports")
    names = [each.name for each in sections(Setting("cpu"))]
    parser.add_argument("--only", nargs="+", choices=names, help="other sections stay as an earlier run left them")
    parser.add_argument("--out", type=Path, help="the folder of the results; what a CPU gives needs another one")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --tiny shows whether the benchmark works")
    if given.out is None and (given.tiny or given.device == "cpu"):
        parser.error("figures of a CPU or of tiny sizes are not for benchmarks/results: name a folder with --out")
    return given


def kept(path: Path, only: Sequence[str] | None) -> list[dict[str, Any]]:
    """Sections of an earlier run on this card that are not run once more."""
    earlier = path.with_suffix(".json")
    if not only or not earlier.exists():
        return []
    return [each for each in json.loads(earlier.read_text())["sections"] if each["name"] not in only]


def run_all(chosen: Sequence[Section], minutes: float, result: dict[str, Any], path: Path, patience: float) -> None:
    """Writes both files after every part of every section."""
    console, began = Console(stderr=True, highlight=False, markup=False), time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = result["sections"]

    def save(done: Sequence[Outcome]) -> None:
        result["sections"] = [*earlier, *map(asdict, done)]
        parts = {each["name"]: each["parts"] for each in result["sections"]}
        result["targets"] = [{**asdict(verdict), "met": verdict.met} for verdict in targets.verdicts(parts)]
        path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(report.markdown(result))

    done: list[Outcome] = []
    for each in chosen:
        left = 60 * minutes - (time.perf_counter() - began)
        outcome = section.run(each, left, lambda unfinished: save([*done, unfinished]), patience)
        done.append(outcome)
        said = outcome.error or outcome.left_out or "done"
        console.print(f"{time.perf_counter() - began:4.0f} s, {outcome.seconds:.0f} of them for {each.name}: {said}")


if __name__ == "__main__":
    main()
