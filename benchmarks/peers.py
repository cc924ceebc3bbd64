"""Our backend beside other caches, plain `torch.compile` and fewer steps, on the same models from the same noise.

    python benchmarks/peers.py
    python benchmarks/peers.py --subjects FLUX --depth 12 --methods 'duca|DBCache'   # one model, deeper, some of the rows
    python benchmarks/peers.py --subjects Wan --add                                  # one more in the report that is there
    python benchmarks/peers.py --width 128 --side 8 --no-inductor                    # counts and errors without compiling

Columns, rows and their limits are explained at the head of `benchmarks/results/peers.md`, which this writes, with
`peers.json` beside it. Each row compiles in a process of its own, from an empty cache of Inductor's; then the processes run
whole trajectories in turn. A peer that cannot run a model has a row with the reason.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "CACHE_DIT_LOG_LEVEL": "error",
    "KINETO_LOG_LEVEL": "99",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}

import torch
from rich.console import Console
from rich.progress import Progress

from comparison.methods import METHODS, Schedule
from comparison.report import markdown, table
from comparison.subjects import SUBJECTS, Size
from comparison.worker import Facts, Order, work

RESULTS = Path(__file__).parent / "results"
PLAIN = METHODS[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=tuple(SUBJECTS), default=tuple(SUBJECTS))
    parser.add_argument(
        "--methods", default="", help="a pattern: only rows that it is found in, beside plain torch.compile"
    )
    parser.add_argument("--width", type=int, default=512, help="a multiple of 64")
    parser.add_argument("--depth", type=int, default=6, help="blocks")
    parser.add_argument("--side", type=int, default=16, help="of the grid of tokens")
    parser.add_argument("--batch", type=int, default=8, help="images of the trained model")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cycle", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--no-inductor", action="store_true", help="a quick check of counts and errors; times mean nothing"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--add", action="store_true", help="to the models of an earlier run with the same settings")
    given = parser.parse_args()
    size, schedule = Size(given.width, given.depth, given.side, given.batch), Schedule(given.steps, given.cycle)
    report: dict[str, Any] = {
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "cache-dit", "duca-compile")},
        "steps": given.steps, "cycle": given.cycle, "full_steps": sum(schedule.full), "rounds": given.rounds, "inductor": not given.no_inductor,
        "subjects": {},
    }  # fmt: skip
    given.output.mkdir(parents=True, exist_ok=True)
    if given.add:
        report["subjects"] = earlier(given.output / "peers.json", report)
    for subject in given.subjects:
        rows = compare(subject, given.methods, size, schedule, given.rounds, not given.no_inductor)
        report["subjects"][subject] = rows
        Console(width=None if sys.stdout.isatty() else 200).print(table(subject, rows))
        (given.output / "peers.json").write_text(json.dumps(report, indent=1) + "\n")
        (given.output / "peers.md").write_text(markdown(report))


def earlier(written: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The models of a report whose head, all but the models, is that of `report`."""
    found: dict[str, Any] = json.loads(written.read_text())
    other = [of for of in report if of != "subjects" and found[of] != report[of]]
    if other:
        raise SystemExit(f"{written} is of another run: {', '.join(other)} differ")
    return dict(found["subjects"])


def compare(
    subject: str, wanted: str, size: Size, schedule: Schedule, rounds: int, inductor: bool
) -> list[dict[str, Any]]:
    """All rows of one model, plain `torch.compile` first."""
    methods = [method for method in METHODS if method is PLAIN or re.search(wanted, method.key)]
    workers: dict[str, Worker] = {}
    settings: dict[str, dict[str, float]] = {}
    with Progress() as progress:
        task = progress.add_task(f"{subject}: compiling", total=len(methods))
        for method in methods:
            progress.update(task, description=f"{subject}: {method.key}")
            order = Order(
                subject, method.key, size, schedule, torch.get_num_threads(), inductor, settings.get(method.name, {})
            )
            worker = workers[method.key] = Worker(order)
            settings[method.name] = worker.facts["settings"]
            progress.advance(task)
        plain = workers[PLAIN.key]
        runs = {key: (worker, schedule.steps) for key, worker in workers.items() if not worker.facts["unsupported"]}
        for steps, name in fewer(schedule, workers).items():
            runs[name] = (plain, steps)
        seconds: dict[str, list[float]] = {key: [] for key in runs}
        task = progress.add_task(f"{subject}: timing", total=rounds * len(runs))
        for turn in range(rounds):
            for key, (worker, steps) in list(runs.items())[:: 1 if turn % 2 else -1]:
                spent, graphs = worker.ask("time", steps)
                seconds[key].append(spent)
                worker.late = graphs - (worker.facts["graphs"] or 0)
                progress.advance(task)
        rows = [row(key, worker, schedule.steps, plain, seconds) for key, worker in workers.items()]
        rows += [row(key, plain, steps, plain, seconds) for key, (_, steps) in runs.items() if key not in workers]
    for worker in workers.values():
        worker.close()
    return rows


def fewer(schedule: Schedule, workers: dict[str, "Worker"]) -> dict[int, str]:
    """Numbers of plain steps to compare with: as many as ours has full ones, and as many as its FLOPs buy, rounded up."""
    full, ours = sum(schedule.full), workers.get("duca-compile, compiled")
    found = {full: f"fewer steps, {full} (our full steps)"}
    if ours and not ours.facts["unsupported"]:
        bought = -int(-ours.facts["flops_share"] * schedule.steps // 1)
        found.setdefault(bought, f"fewer steps, {bought} (our FLOPs)")
    return found


def row(key: str, worker: "Worker", steps: int, plain: "Worker", seconds: dict[str, list[float]]) -> dict[str, Any]:
    facts = dict(worker.facts)
    sample = torch.tensor(facts.pop("sample")) if facts["sample"] is not None else None
    facts = {"row": key, **facts}
    if facts["unsupported"]:
        return facts
    if key != worker.order.method:
        sample = torch.tensor(worker.ask("sample", steps))
        facts |= {"full": steps, "cached": 0, "flops_share": steps / plain.order.schedule.steps, "same_steps": False}
        facts |= {"first_seconds": None, "compile_seconds": None, "notes": ["the same graph as plain torch.compile"]}
    elif worker.late:
        facts["notes"] = [*facts["notes"], f"compiled {worker.late} more graphs while it was timed"]
    assert sample is not None
    want = torch.tensor(plain.facts["sample"])
    error = (sample - want).norm() / want.norm()
    span = facts["span"] or float(want.max() - want.min())
    ratios = [mine / theirs for mine, theirs in zip(seconds[key], seconds[PLAIN.key], strict=True)]
    facts |= {
        "time_ratio": statistics.median(ratios), "time_from": min(ratios), "time_to": max(ratios),
        "seconds": statistics.median(seconds[key]), "error": float(error),
        "psnr": float(10 * torch.log10(span**2 / (sample - want).square().flatten(1).mean(1)).mean()) if error else None,
    }  # fmt: skip
    return facts


class Worker:
    """The process of one row. `facts` are those of `comparison.worker.Facts`."""

    def __init__(self, order: Order) -> None:
        context = multiprocessing.get_context("spawn")
        self.order = order
        self.late = 0
        """Graphs that were compiled when nothing should have been left to compile."""
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, order), daemon=True)
        self.process.start()
        theirs.close()
        try:
            self.facts: dict[str, Any] = self.pipe.recv()
        except EOFError:
            self.facts = asdict(Facts(unsupported="its process died"))
        if order.method == PLAIN.key and self.facts["unsupported"]:
            raise SystemExit(f"{order.subject}: {self.facts['unsupported']}")

    def ask(self, what: str, steps: int) -> Any:
        self.pipe.send((what, steps))
        return self.pipe.recv()

    def close(self) -> None:
        if self.process.is_alive():
            self.pipe.send(None)
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.kill()


if __name__ == "__main__":
    main()
