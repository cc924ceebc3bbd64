"""FLUX.1-dev at 1024 x 1024 as `explain` foretells it, without memory for its weights.

    python benchmarks count flux-dev

19 double and 38 single blocks, 4,096 image and 512 text tokens, bfloat16, a cycle of 5 at cache ratio 0.9.
"""

from collections.abc import Sequence

import torch

import duca_compile
from cycle import CYCLE
from duca_compile import Mode
from face.block import Block, Page
from face.commands import parser
from face.draw import show
from face.origin import origin
from models import of_diffusers
from speed.allocations import OPTIONS


@torch.no_grad()
def main(arguments: Sequence[str]) -> None:
    parser("count flux-dev", __doc__).parse_args(arguments)
    subject = of_diffusers.flux(19, side=64, text=512).subject("meta", torch.bfloat16)
    given, rows = subject.call(subject.latents, 900.0), []
    for name, options in OPTIONS.items():
        (graph,) = duca_compile.explain(subject.model, **given, duca_options={"cycle": CYCLE, **options}).graphs
        for mode in (mode for mode in Mode if mode in graph.flops):
            sizes = (graph.weight_bytes[mode], graph.cache_bytes[mode], graph.held_bytes)
            cells = (f"{size / 2**30:.3f}" for size in sizes)
            rows.append((name, mode.value, f"{graph.flops[mode] / 1e12:.3f}", *cells))
    headings = ("options", "mode", "TFLOPs", "weights read (GiB)", "cache read (GiB)", "held (GiB)")
    block = Block("FLUX.1-dev at 1024 x 1024, bfloat16, foretold", headings, rows, words=(0, 1))
    show(Page("Foretold", origin("count flux-dev", arguments), [block]))
