"""What canonicalisation leaves of a function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from duca_compile.capture.canonicalise import canonicalise
from duca_compile.graph import ir

X = torch.randn(2, 6, 4)


def left(run: Callable[[Tensor], Any], x: Tensor) -> list[str]:
    """The ops that survive; the result must be the same, bit for bit."""
    gm = make_fx(run, tracing_mode="fake", pre_dispatch=True)(x)
    canonicalise(gm)
    torch.testing.assert_close(gm(x), run(x), rtol=0, atol=0)
    return [str(ir.packet(node) or "getitem") for node in gm.graph.nodes if node.op == "call_function"]
