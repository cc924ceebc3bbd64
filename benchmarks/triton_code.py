"""Which Triton code each mode comes to, without a GPU: graphs captured on the CPU, code written for a made-up H100.

    python benchmarks/triton_code.py                                  # a narrow DiT of 6 blocks
    python benchmarks/triton_code.py --model flux --depth 1 --outline --out generated

It needs a CUDA build of torch and no GPU. *Kernels* are the distinct Triton kernels, which are compiled; *launches* are
those of one step: of Triton kernels, of library products, of attention, of other operations. A block's are those that
one block more adds, and *static* the inputs that the compiler may take to lie where they lay.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import fx, nn

import pretend_h100
from duca_compile import torch_private
from subjects import Subject, flux_call

MODES = ("plain", "full", "conservative", "aggressive")
KINDS = ("triton", "product", "attention", "other")
Graph = tuple[fx.GraphModule, list[Any]]


def _dit(depth: int) -> nn.Module:
    from dit import DiT

    return DiT(size=32, patch=2, channels=4, width=256, depth=depth, heads=4)


def _flux(depth: int) -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        num_layers=depth, num_single_layers=2 * depth, num_attention_heads=2, guidance_embeds=True
    )


NARROW = {
    "dit": Subject(
        "DiT of width 256, 256 tokens, a batch of 2",
        6,
        _dit,
        lambda: torch.randn(2, 4, 32, 32),
        lambda latents, t: {"x": latents, "t": torch.full((2,), t), "y": torch.tensor([1, 10])},
    ),
    "flux": Subject("FLUX of width 256, 256 + 64 tokens", 1, _flux, lambda: torch.randn(1, 256, 64), flux_call(16, 64)),
}
"""Depths count FLUX's double blocks; each has two single ones beside it."""


@dataclass(frozen=True)
class Counts:
    """Of one graph. `launches` has a number for each of `KINDS`."""

    kernels: int
    launches: Counter[str]
    tensors: int
    static: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NARROW, default="dit")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--outline", action=argparse.BooleanOptionalAction, default=False, help="no, as on GPUs")
    parser.add_argument("--out", type=Path, help="a folder for the code")
    given = parser.parse_args()
    refusal = pretend_h100.why_not()
    if refusal:
        raise SystemExit(refusal)
    subject = NARROW[given.model]
    depth = given.depth or subject.depth
    graphs = [captured(subject, each, {"outline": given.outline}) for each in (depth, depth + 1)]
    pretend_h100.pretend()
    counted = counts(graphs[0], given.out), counts(graphs[1])
    Console(width=80).print(_table(f"{subject.title}; {depth} blocks, torch {torch.__version__}", *counted))


@torch.no_grad()
def captured(subject: Subject, depth: int, options: dict[str, Any]) -> dict[str, Graph]:
    """What reaches the inner compiler in three steps, one of each mode, and of the model alone."""
    torch.manual_seed(0)
    model, latents = subject.model(depth, torch.bfloat16), subject.latents().bfloat16()
    fixed, graphs = subject.arguments(latents, 980.0), []

    def collect(gm: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        graphs.append((gm, list(inputs)))
        return gm.forward

    torch._dynamo.reset()
    torch.compile(model, backend=collect)(**fixed)
    torch._dynamo.reset()
    torch_private.inner_compiler = lambda inner, changes: collect
    run = torch.compile(model, backend="duca", options={"method": "duca", "strict": True, **options})
    for step in range(3):
        run(**subject.step(latents * 0.99**step, step, fixed))
    return dict(zip(MODES, graphs, strict=True))


def counts(graphs: Mapping[str, Graph], out: Path | None = None) -> dict[str, Counts]:
    """Once the GPU is pretended. The code is left in the folder `out`."""
    found = {}
    for name, graph in graphs.items():
        made = pretend_h100.generated(*graph)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.py").write_text(made.code)
        kernels = made.code.count("= async_compile.triton(")
        found[name] = Counts(kernels, launches(made.code), made.tensors, made.static)
    return found


def launches(code: str) -> Counter[str]:
    """What one call of the generated code launches, with what the functions that it calls do."""
    functions = {node.name: node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}

    def of(name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                found += of(called) if called in functions else Counter(filter(None, [kind_of(called)]))
        return found

    return of("call")


def kind_of(called: str) -> str | None:
    """Of a launch, by the dotted name of what is called; None if it launches nothing."""
    if called.endswith(".run"):
        return "triton"
    if re.fullmatch(r"extern_kernels\.\w*(mm|baddbmm|convolution)|.*\.convolution(\.\w+)?", called):
        return "product"
    if re.match(r"torch\.ops\.aten\._scaled_dot_product_\w*attention", called):
        return "attention"
    return "other" if called.startswith(("extern_kernels.", "torch.ops.", "aten.")) else None


def _table(title: str, shallow: dict[str, Counts], deep: dict[str, Counts]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    for heading in (
        "",
        "distinct\nkernels",
        "Triton",
        "products",
        "attention",
        "other",
        "all",
        "per\nblock",
        "static\ninputs",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    for mode, found in shallow.items():
        more = deep[mode].launches.total() - found.launches.total()
        by_kind = [found.launches[kind] for kind in KINDS]
        numbers = (found.kernels, *by_kind, found.launches.total(), more)
        table.add_row(mode, *map(str, numbers), f"{found.static}/{found.tensors}")
    return table


if __name__ == "__main__":
    main()
