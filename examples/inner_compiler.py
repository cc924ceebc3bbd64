"""A compiler of one's own for the graphs of the recipes: here one that counts their ops and runs them as they are.

python examples/inner_compiler.py
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

import duca_compile
from sampling import initial_noise, sample, trained_dit

counts: list[Counter[str]] = []


def counting(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """Any backend of `torch.compile`: a graph and example inputs in, a function of such inputs out."""
    counts.append(Counter(str(node.target) for node in gm.graph.nodes if node.op == "call_function"))
    return gm.forward


def main(steps: int = 12) -> None:
    model = trained_dit()
    compiled = torch.compile(model, backend="duca", options={"inner": counting})
    sample(compiled, torch.tensor([9]), initial_noise(1, 0), steps)
    print(duca_compile.stats(model).headline)
    for recipe in counts:
        print(f"{recipe.total()} ops, of which {recipe['aten.linear.default']} are linear layers")


if __name__ == "__main__":
    main()
