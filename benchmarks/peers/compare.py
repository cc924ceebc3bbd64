"""All rows of one model: a process each, compiled one after the other, timed in turn."""

import multiprocessing
import re
import statistics
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch
from rich.progress import Progress

from figures import Ratios, decibels, relative_error
from models.sampled import Size
from peers.methods import METHODS, Schedule
from peers.worker import Facts, Order, work

PLAIN = METHODS[0]


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
    error = relative_error(sample, want)
    span = facts["span"] or float(want.max() - want.min())
    ratios = Ratios.of(seconds[key], seconds[PLAIN.key])
    facts |= {
        "time_ratio": ratios.median, "time_from": min(ratios.found), "time_to": max(ratios.found),
        "seconds": statistics.median(seconds[key]), "error": error,
        "psnr": float(decibels(sample, want, span).mean()) if error else None,
    }  # fmt: skip
    return facts


class Worker:
    """The process of one row. `facts` are those of `peers.worker.Facts`."""

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
