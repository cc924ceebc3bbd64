"""Generates the images of a row, chunk by chunk."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import duca_compile
import fashion
from quality.rows import CHUNK, Outcome, Row, load
from quality.samplers import Guided, trained, weights
from sampling import initial_noise


def compiled(row: Row, model: nn.Module) -> Any:
    """Under the options of the row, without falling back; plain where it has none."""
    how: dict[str, Any] = {}
    if row.options is not None:
        how = {"backend": "duca", "options": {"strict": True, **row.options}}
    return torch.compile(model, dynamic=False, **how)


def generate(row: Row, chunks: int, folder: Path) -> None:
    """Finished chunks are kept in the row's file. A row whose model has no weights yet is left out."""
    done = load(row, folder)
    if len(done.images) >= chunks:
        return
    sampler = row.made_by
    if not weights(sampler).exists():
        print(f"{row.sampler}, {row.name}: left out, as {weights(sampler).name} is missing", flush=True)
        return
    torch.compiler.reset()
    model, labels = trained(sampler), torch.arange(CHUNK) % 10
    run = compiled(row, model)
    for chunk in range(len(done.images), chunks):
        began = time.perf_counter()
        with torch.no_grad():
            noise = initial_noise(CHUNK, seed=chunk)
            done.images.append(sampler.images(run, noise, labels, row.steps, source(row, chunk)))
        if not done.flops:
            count_cost(row, model, done)
        torch.save(vars(done), row.path(folder))
        print(f"{row.sampler}, {row.name}: chunk {chunk + 1} in {time.perf_counter() - began:.0f} s", flush=True)


def count_cost(row: Row, model: nn.Module, done: Outcome) -> None:
    """FLOPs of one sample, 2 per multiply-add, the denoiser alone, after one generation."""
    sampler = row.made_by
    calls = sampler.calls if isinstance(sampler, Guided) else 1
    batch = 2 if isinstance(sampler, Guided) and calls == 1 else 1
    x, t, y = torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.tensor([0])
    (graph,) = duca_compile.explain(model, x, t, y, duca_options=row.options).graphs
    assert graph.refusal is None, graph.refusal
    steps = duca_compile.stats(model).steps if row.options else {"full": calls * row.steps}
    done.flops = batch * sum(graph.flops[name] * count for name, count in steps.items() if count)
    done.full_steps = steps["full"] // calls
    done.held_bytes = calls * batch * graph.held_bytes if row.options else 0


def source(row: Row, chunk: int) -> Tensor | None:
    """The images that image to image starts from."""
    return fashion.load("t10k")[0][chunk * CHUNK :][:CHUNK] if "from half" in row.sampler else None
