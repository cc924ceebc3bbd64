"""The recipes of a model compiled ahead of time by AOTInductor, and run without the model and without compiling.

python examples/ahead_of_time.py output/dit     # compiles into the folder, which takes a minute
python examples/ahead_of_time.py output/dit     # the folder is there: only loads and runs
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn

import duca_compile
from sampling import initial_noise, sample, trained_dit


def main(folder: Path, steps: int = 50) -> None:
    if not folder.exists():
        compile_ahead(trained_dit(), folder)
    began = time.perf_counter()
    program = duca_compile.load(folder)
    print(f"{program} loaded in {time.perf_counter() - began:.2f} s")
    generation = program.start(steps)
    began = time.perf_counter()
    sample(generation, torch.tensor([9]), initial_noise(1, 0), steps)
    print(f"{steps} steps in {time.perf_counter() - began:.2f} s, {generation.recipes.count('full')} of them full")


def compile_ahead(model: nn.Module, folder: Path) -> None:
    call = (initial_noise(2, 0), torch.full((2,), 900), torch.tensor([9, 10]))
    began = time.perf_counter()
    duca_compile.rewrite(model, *call).save(folder)
    print(f"compiled in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
