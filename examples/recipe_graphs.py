"""An exported model as one graph for each recipe, and a generation that runs them explicitly.

python examples/recipe_graphs.py
"""

from typing import Any

import torch

import duca_compile
from sampling import initial_noise, sample, trained_dit


def main(steps: int = 12, inner: Any = "inductor") -> None:
    call = (initial_noise(2, 0), torch.full((2,), 900), torch.tensor([9, 10]))
    exported = torch.export.export(trained_dit(), call)
    program = duca_compile.rewrite(exported, *call, options={"method": "duca", "inner": inner})
    for name, recipe in program.recipes.items():
        signature = recipe.signature
        print(
            f"{name}: {len(recipe.graph.graph.nodes)} nodes; takes {len(signature.reads)} caches and "
            f"{len(signature.draws)} choices of tokens, leaves {signature.returned} caches"
        )
    generation = program.start(steps)
    sample(generation, torch.tensor([9]), initial_noise(1, 0), steps)
    print(
        f"{', '.join(generation.recipes)}; {generation.bytes / 2**20:.1f} MiB of caches, which go with the generation"
    )


if __name__ == "__main__":
    main()
