"""Prints what the backend finds in one entry of the zoo: `python tests/zoo/try_case.py zoo.core FLUX`."""

import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import torch

import duca_compile
from zoo.case import Case, randomise
from zoo.survey import survey


def main() -> None:
    module, *names = sys.argv[1:]
    cases: dict[str, Case] = next(
        value
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, dict) and value and all(isinstance(case, Case) for case in value.values())
    )
    for name in names or cases:
        torch._dynamo.reset()
        case, began = cases[name], time.perf_counter()
        try:
            model = randomise(case.build())
            call = case.call(500.0)
            with torch.no_grad():
                model(**call)
            found = survey(model, call)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}"[:2000])
            continue
        want = (case.branches, case.recomputed, case.blocks, case.graphs)
        have = (found.branches, found.recomputed, found.blocks, found.graphs)
        print(
            f"{name}: {'as expected' if want == have else 'DIFFERS'}: (branches, recomputed, blocks, graphs) expected {want}, found {have}; {time.perf_counter() - began:.0f} s"
        )
        for refusal in found.refusals:
            print(f"  refused: {refusal}"[:500])
        if "-v" in sys.argv or len(names) == 1:
            print(duca_compile.explain(model, **call))


if __name__ == "__main__":
    main()
