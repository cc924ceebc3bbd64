"""A backend of one's own for `torch.compile` that looks at Dynamo's graph and hands it on to duca.

python examples/own_backend.py
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

import duca_compile
from sampling import initial_noise, sample, trained_dit


def inner(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """For the graph of each recipe."""
    print(f"  a graph of {len(gm.graph.nodes)} nodes")
    return gm.forward


def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    print(f"Dynamo's graph has {len(gm.graph.nodes)} nodes; those of the recipes, as they are first used:")
    return duca_compile.duca(gm, inputs, options={"method": "duca", "inner": inner})


def main(steps: int = 12) -> None:
    model = trained_dit()
    sample(torch.compile(model, backend=backend), torch.tensor([9]), initial_noise(1, 0), steps)
    print(duca_compile.stats(model).headline)


if __name__ == "__main__":
    main()
