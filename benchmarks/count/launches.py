"""Which Triton code each mode comes to, without a GPU: graphs captured on the CPU, code written for a made-up H100.

    python benchmarks count launches                                  # a narrow DiT of 6 blocks
    python benchmarks count launches --model flux --depth 1 --outline --out generated

It needs a CUDA build of torch and no GPU. *Kernels* are the distinct Triton kernels, which are compiled; *launches* are
those of one step: of Triton kernels, of library products, of attention, of other operations. A block's are those that
one block more adds, and *static* the inputs that the compiler may take to lie where they lay. Under `reduce-overhead`
caches lie in fixed memory: a full step copies what it stores there.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import fx

from count import pretend_h100
from duca_compile import torch_private
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from models.shapes import Shape, Subject
from models.sizes import NARROW

OURS = ("full", "conservative", "aggressive")
RECORDED = "reduce-overhead"
MODES = ("plain", *OURS, *(f"{mode}, {RECORDED}" for mode in OURS))
KINDS = ("triton", "product", "attention", "other")
Graph = tuple[fx.GraphModule, list[Any]]


DEPTHS = {"dit": 6, "flux": 1}
"""Of FLUX double blocks; each has two single ones beside it."""


@dataclass(frozen=True)
class Counts:
    """Of one graph. `launches` has a number for each of `KINDS`."""

    kernels: int
    launches: Counter[str]
    tensors: int
    static: int


def main(arguments: Sequence[str]) -> None:
    asked = parser("count launches", __doc__)
    asked.add_argument("--model", choices=NARROW, default="dit")
    asked.add_argument("--depth", type=int)
    asked.add_argument("--outline", action=argparse.BooleanOptionalAction, default=False, help="no, as on GPUs")
    asked.add_argument("--out", type=Path, help="a folder for the code")
    given = asked.parse_args(arguments)
    refusal = pretend_h100.why_not()
    if refusal:
        raise SystemExit(refusal)
    depth = given.depth or DEPTHS[given.model]
    shapes = [NARROW[given.model](each) for each in (depth, depth + 1)]
    graphs = [captured(shape, {"outline": given.outline}) for shape in shapes]
    pretend_h100.pretend()
    counted = counts(graphs[0], given.out), counts(graphs[1])
    block = table(f"{shapes[0].title}, bfloat16", *counted)
    show(Page("Launches", origin("count launches", arguments), [block]))


@torch.no_grad()
def captured(shape: Shape, options: dict[str, Any]) -> dict[str, Graph]:
    """What reaches Inductor: of the model alone, and in three steps, one of each mode, without and as CUDA graphs."""
    subject, graphs = shape.subject("cpu", torch.bfloat16), []

    def collect(gm: fx.GraphModule, inputs: Sequence[Any], config_patches: Any = None) -> Callable[..., Any]:
        graphs.append((gm, list(inputs)))
        return gm.forward

    ours = {"method": "duca", "strict": True, **options}
    run(subject, 1, collect)
    with mock.patch.object(torch._dynamo, "lookup_backend", return_value=collect):
        run(subject, 3, "duca", ours)
        with mock.patch.object(torch_private, "records_cuda_graphs", return_value=True):
            run(subject, 3, "duca", {**ours, "inductor_mode": RECORDED})
    return dict(zip(MODES, graphs, strict=True))


def run(subject: Subject, steps: int, backend: Any, options: dict[str, Any] | None = None) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(subject.model, backend=backend, options=options)
    for step in range(steps):
        compiled(**subject.call(subject.latents * 0.99**step, 980.0 - 15 * step))


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


def table(title: str, shallow: dict[str, Counts], deep: dict[str, Counts]) -> Block:
    rows = []
    for mode, found in shallow.items():
        more = deep[mode].launches.total() - found.launches.total()
        by_kind = [found.launches[kind] for kind in KINDS]
        numbers = (found.kernels, *by_kind, found.launches.total(), more)
        rows.append((mode, *map(str, numbers), f"{found.static}/{found.tensors}"))
    headings = (
        "", "distinct kernels", "Triton", "products", "attention", "other", "all", "per block", "static inputs",
    )  # fmt: skip
    return Block(title, headings, rows)
