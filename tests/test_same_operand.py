"""Bodies that read one value in several ways: at a step on the same inputs, a cache changes nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import duca_compile
from duca_compile import Mode
from helpers import compiled, relative_error

Body = Callable[[Tensor, Tensor], Tensor]
TOKENS = FEATURES = 16


class Blocks(nn.Module):
    """Three blocks of `body(v, text)`, gated by the time; as many tokens as features, so that shapes tell nothing."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body
        self.time, self.into, self.out_of, self.leave = (nn.Linear(FEATURES, FEATURES) for _ in range(4))

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        angle = t[:, None] * torch.exp(-torch.arange(8) * 0.5)
        gate = self.time(torch.cat([angle.sin(), angle.cos()], -1))[:, None]
        for _ in range(3):
            x = x + gate * self.out_of(self.body(self.into(F.layer_norm(x, [FEATURES])), text))
        return self.leave(x)


BODIES: dict[str, Body] = {
    "attention to itself": lambda v, text: F.scaled_dot_product_attention(v, v, v),
    "attention over its own bias": lambda v, text: F.scaled_dot_product_attention(text, text, text, attn_mask=v) * v,
    "einsum of one": lambda v, text: v * torch.einsum("btc,bsc->bts", v, v).softmax(-1).amax(-1, keepdim=True),
    "einsum of three": lambda v, text: torch.einsum("btc,bsc,bsd->btd", v, v, v) / 20,
    "matmul": lambda v, text: v @ v / 4,
    "baddbmm": lambda v, text: torch.baddbmm(v, v, v) / 4,
    "linear": lambda v, text: F.linear(v[0], v[0])[None] * v,
    "addmm": lambda v, text: torch.addmm(v[0], v[0], v[0])[None] * v,
    "another value, at the tokens and whole": lambda v, text: F.scaled_dot_product_attention(v * text, text, text),
    "another value, multiplied both ways": lambda v, text: v * text + v @ text,
}


@pytest.mark.parametrize("name", BODIES)
def test_a_step_on_the_same_inputs_gives_the_same_result(name: str) -> None:
    torch.manual_seed(0)
    model = Blocks(BODIES[name]).eval()
    x, text = torch.randn(2, 2, TOKENS, FEATURES)
    t = torch.full((2,), 500.0)
    fast = compiled(model, order="conservative", cache_ratio=0.6)
    with torch.no_grad(), duca_compile.session("one", steps=100):
        want = model(x, t, text)
        for _ in range(3):
            assert relative_error(fast(x.clone(), t.clone(), text), want) < 1e-5
    assert duca_compile.stats(fast).steps[Mode.CONSERVATIVE] == 2
