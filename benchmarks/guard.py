"""What a step costs the host beside its graph, by mode: choosing mode and caches, and handing on the results.

python benchmarks/guard.py
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import torch
from rich.console import Console
from rich.table import Table
from torch import fx

import duca_compile
from cycle import CYCLE
from dit import DiT
from duca_compile import Mode
from duca_compile.backend import duca


def main() -> None:
    with torch.no_grad():
        Console(width=110).print(guard())


def guard() -> Table:
    """Host time of our part of a step, on the smallest model: all that a call of the backend takes but its graph's run.

    Beside it, what `torch.compile` itself takes to find the graph, as with any backend.
    """
    torch.set_num_threads(1)
    model = DiT(size=8, width=32, depth=2, heads=2).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    whole, calls, graphs = Timer(), Timer(), Timer()

    def inner(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return graphs.timed(gm.forward)

    def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return calls.timed(duca(gm, inputs, options={"method": "duca", "cycle": CYCLE, "inner": inner, "strict": True}))

    fast = whole.timed(torch.compile(model, backend=backend))
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    spent: dict[str, list[int]] = {**{mode.value: [] for mode in Mode}, "torch.compile": []}
    for step in range(5000):
        before = duca_compile.stats(model).steps
        x = x - 0.001 * fast(x, torch.full((2,), 9000.0 - step), labels)
        after = duca_compile.stats(model).steps
        mode = next(each for each in Mode if after[each] > before.get(each, 0))
        spent[mode.value].append(calls.last - graphs.last)
        spent["torch.compile"].append(whole.last - calls.last)
    assert not duca_compile.stats(model).resets, "or these would not be the steps of one generation"
    table = Table(title=f"host time of a step beside its graph; {len(list(model.parameters()))} weights, one thread")
    for heading in ("of", "steps", "fastest", "median", "nine in ten"):
        table.add_column(heading, justify="left" if heading == "of" else "right")
    for name, found in spent.items():
        found = sorted(found[100:])
        figures = (f"{found[int(at * (len(found) - 1))] / 1e3:.0f} us" for at in (0, 0.5, 0.9))
        table.add_row(name, str(len(found)), *figures)
    return table


class Timer:
    """`last`: nanoseconds that the last call of the functions it has timed took."""

    last = 0

    def timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter_ns()
            found = run(*args)
            self.last = time.perf_counter_ns() - began
            return found

        return timed


if __name__ == "__main__":
    main()
