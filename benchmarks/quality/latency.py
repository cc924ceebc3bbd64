"""How many times as fast a row generates as plain `torch.compile` in its sampler's own steps."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from face.origin import machine
from figures import Ratios
from quality.generate import compiled
from quality.rows import Row
from quality.samplers import SAMPLERS, trained
from sampling import initial_noise

FILE = "latency.json"
Times = dict[str, dict[str, Any]]
"""By the name of a row under DDIM: ratios of pairs, and how they were measured."""


def measure(wanted: list[Row], folder: Path, pairs: int, batch: int) -> None:
    """Rows that were measured so on this machine are not measured once more."""
    how = {"pairs": pairs, "batch": batch, "machine": machine(), "torch": torch.__version__}
    done = known(folder)
    for row in wanted:
        if row == Row.own(row.sampler) or how.items() <= done.get(row.name, {}).items():
            continue
        ratios = paired(row, pairs, batch)
        done[row.name] = {**how, "ratios": ratios.found}
        (folder / FILE).write_text(json.dumps(done, indent=1) + "\n")
        told = f"{ratios.median:.2f}x ({min(ratios.found):.2f} to {max(ratios.found):.2f})"
        print(f"{row.sampler}, {row.name}: {told}", flush=True)


@torch.no_grad()
def paired(row: Row, pairs: int, batch: int) -> Ratios:
    """Seconds of plain over those of the row; generations of the same noise in turn, after one of each to compile."""
    torch.compiler.reset()
    sampler, labels = SAMPLERS[row.sampler], torch.arange(batch) % 10
    plain = Row.own(row.sampler)
    runs = {each: compiled(each, trained(sampler)) for each in (plain, row)}
    spent: dict[Row, list[float]] = {plain: [], row: []}
    for turn in range(pairs + 1):
        noise = initial_noise(batch, seed=turn)
        for each in (plain, row) if turn % 2 else (row, plain):
            began = time.perf_counter()
            sampler.images(runs[each], noise, labels, each.steps, None)
            spent[each].append(time.perf_counter() - began)
    return Ratios.of(spent[plain][1:], spent[row][1:])


def known(folder: Path) -> Times:
    path = folder / FILE
    found: Times = json.loads(path.read_text()) if path.exists() else {}
    return found


def note(times: Times) -> str:
    """Where they were measured is said where the page's own origin does not say it."""
    how = next(iter(times.values()))
    here = how["machine"] == machine() and how["torch"] == torch.__version__
    where = "" if here else f"; {how['machine']}, torch {how['torch']}"
    return (
        f"*Time*: how many times as fast as plain `torch.compile` in 50 steps, median of {how['pairs']} pairs of "
        f"generations of {how['batch']} images in turn, in one process{where}."
    )
