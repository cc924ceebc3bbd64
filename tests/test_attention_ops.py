"""Attention of other libraries, as their users meet it: made-up operations with the schemas of the real ones."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import varlen

import duca_compile
from duca_compile import Mode
from duca_compile.cost import flops
from duca_compile.cost.flops import Executed
from duca_compile.graph import attention_ops
from duca_compile.torch_private import fake_tensors
from helpers import attention, captured, compiled, relative_error
from zoo.case import noise

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of `[batch, tokens, heads, features]`."""


def _forward(q: Tensor, k: Tensor, v: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, tokens, heads, _ = q.shape
    found = attention(q, k, v)
    return found, q.new_empty(batch, heads, tokens).float(), q.new_empty(0), q.new_empty(0)


def _packed(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    """All sequences of these tests are of equal length."""
    parts = (each.unflatten(0, (len(starts) - 1, -1)) for each in (q, k, v))
    found = attention(*parts).flatten(0, 1)
    return found, q.new_empty(q.shape[1], q.shape[0]), q.new_zeros(2, dtype=torch.uint64)


def _into(query: Tensor, key: Tensor, value: Tensor, output: Tensor, *given: Any) -> Tensor:
    output.copy_(attention(query * given[0], key * given[1], value))
    return value.new_empty(0)


def _by_heads(q: Tensor, k: Tensor, v: Tensor, *given: Any, **named: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).clone()


def _of_one(qkv: Tensor) -> Tensor:
    return attention(*qkv.unbind(2))


def _rotated(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q + 1, k.mean(1, keepdim=True) + k, v + 1


OPS = {
    "as_flash_attn::_flash_attn_forward(Tensor q, Tensor k, Tensor v, float dropout_p, float softmax_scale, bool causal, int window_size_left, int window_size_right, float softcap, Tensor? alibi_slopes, bool return_softmax) -> (Tensor, Tensor, Tensor, Tensor)": _forward,
    "as_flash_attn::_flash_attn_varlen_forward(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, int max_seqlen_q, int max_seqlen_k, float dropout_p, float softmax_scale, bool causal, int window_size_left=-1, int window_size_right=-1) -> (Tensor, Tensor, Tensor)": _packed,
    "as_flash_attn_3::_flash_attn_forward(Tensor q, Tensor k, Tensor v, Tensor? k_new=None, Tensor? v_new=None, Tensor? qv=None, Tensor? cu_seqlens_q=None, float? softmax_scale=None, bool causal=False) -> (Tensor, Tensor, Tensor, Tensor)": _forward,
    "as_flash_attn_4::fwd(Tensor q, Tensor k, Tensor v, *, float? softmax_scale=None, bool causal=False, float softcap=0.0) -> (Tensor, Tensor, Tensor, Tensor)": _forward,
    "as_sageattention::sageattn(Tensor q, Tensor k, Tensor v, str tensor_layout='HND', bool is_causal=False, float? sm_scale=None) -> Tensor": _by_heads,
    "as_sageattention::qk_int8_sv_f16_accum_f32_attn(Tensor query, Tensor key, Tensor value, Tensor(a!) output, Tensor query_scale, Tensor key_scale, int tensor_layout, int is_causal, int qk_quant_gran, float sm_scale, int return_lse) -> Tensor": _into,
    "own::mha(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, bool is_causal=False) -> Tensor": _by_heads,
    "own::untold(Tensor query, Tensor key, Tensor value) -> Tensor": _by_heads,
    "own::packed_attn(Tensor qkv) -> Tensor": _of_one,
    "own::rotate(Tensor q, Tensor k, Tensor v) -> (Tensor, Tensor, Tensor)": _rotated,
}
LIBRARIES = []
for _schema, _function in OPS.items():
    _namespace, _, _definition = _schema.partition("::")
    LIBRARIES.append(torch.library.Library(_namespace, "FRAGMENT"))
    LIBRARIES[-1].define(_definition)
    for _key in ("CPU", "Meta"):
        LIBRARIES[-1].impl(_definition.partition("(")[0], _function, _key)
varlen._varlen_attn.register_kernel("cpu")(_packed)
attention_dispatch._wrapped_flash_attn_3.register_kernel("cpu")(lambda *given: _forward(*given)[:2])


class FlashAttnFunc(torch.autograd.Function):
    """As FlashAttention 2 wraps its operation."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, is_grad_enabled: bool) -> Tensor:
        is_grad = is_grad_enabled and any(each.requires_grad for each in (q, k, v))
        op = torch.ops.as_flash_attn._flash_attn_forward
        out, lse, _, state = op(q, k, v, 0.0, q.shape[-1] ** -0.5, False, -1, -1, 0.0, None, False)
        if is_grad:
            ctx.save_for_backward(q, k, v, out, lse, state)
        return out


def by_heads(op: Callable[..., Tensor]) -> Attend:
    return lambda q, k, v: op(*(each.transpose(1, 2) for each in (q, k, v))).transpose(1, 2)


def packed(op: Callable[..., Any]) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, tokens = q.shape[:2]
        starts = torch.arange(0, batch * tokens + 1, tokens, dtype=torch.int32)
        found = op(*(each.flatten(0, 1) for each in (q, k, v)), starts, starts, tokens, tokens)
        return (found if isinstance(found, Tensor) else found[0]).unflatten(0, (batch, tokens))

    return attend


def quantised(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out, scale = torch.empty_like(q), q.new_full((1,), 1 / 64)
    q, k = ((each / scale).round().to(torch.int8) for each in (q, k))
    torch.ops.as_sageattention.qk_int8_sv_f16_accum_f32_attn(q, k, v, out, scale, scale, 0, 0, 2, 0.3, 0)
    return out


COUNTED: dict[str, Attend] = {
    "FlashAttention 2": lambda q, k, v: FlashAttnFunc.apply(q, k, v, torch.is_grad_enabled()),
    "FlashAttention 2, packed": packed(
        lambda *given: torch.ops.as_flash_attn._flash_attn_varlen_forward(*given, 0.0, 0.3, False)
    ),
    "FlashAttention 3": lambda q, k, v: torch.ops.as_flash_attn_3._flash_attn_forward(q, k, v)[0],
    "FlashAttention 3 of diffusers": lambda q, k, v: attention_dispatch._wrapped_flash_attn_3(q, k, v)[0],
    "FlashAttention 4": lambda q, k, v: torch.ops.as_flash_attn_4.fwd(q, k, v, softmax_scale=0.3)[0],
    "SageAttention": by_heads(lambda *given: torch.ops.as_sageattention.sageattn(*given)),
    "SageAttention's kernel": quantised,
    "torch.nn.attention.varlen": packed(varlen.varlen_attn),
    "one's own": by_heads(lambda *given: torch.ops.own.mha(*given)),
}
UNCOUNTED: dict[str, Attend] = {
    "untold": by_heads(lambda *given: torch.ops.own.untold(*given)),
    "packed_attn": lambda q, k, v: torch.ops.own.packed_attn(torch.stack([q, k, v], 2)),
}


class Block(nn.Module):
    def __init__(self, attend: Attend, text: int = 0) -> None:
        super().__init__()
        self.attend, self.norms = attend, nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.q, self.kv, self.out = nn.Linear(16, 16), nn.Linear(text or 16, 32), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor, c: Tensor, text: Tensor | None) -> Tensor:
        y = self.norms[0](x)
        q, (k, v) = self.q(y).unflatten(-1, (2, -1)), self.kv(y if text is None else text).chunk(2, -1)
        k, v = k.unflatten(-1, (2, -1)), v.unflatten(-1, (2, -1))
        x = x + c * self.out(self.attend(q, k, v).flatten(2))
        return x + c * self.down(self.up(self.norms[1](x)).relu())


class Parallel(Block):
    """Attention and MLP side by side, as FLUX's single blocks have them."""

    def forward(self, x: Tensor, c: Tensor, text: Tensor | None) -> Tensor:
        y = self.norms[0](x)
        k, v = (each.unflatten(-1, (2, -1)) for each in self.kv(y).chunk(2, -1))
        mixed = self.attend(self.q(y).unflatten(-1, (2, -1)), k, v).flatten(2)
        return x + c * self.down(torch.cat([mixed, self.out(y).relu()], -1))


class Model(nn.Module):
    def __init__(self, attend: Attend, block: type[Block] = Block, text: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.clock, self.leave = nn.Linear(4, 16), nn.Linear(1, 16), nn.Linear(16, 4)
        self.blocks = nn.ModuleList(block(attend, text) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor, text: Tensor | None = None) -> Tensor:
        c, x = self.clock(t[:, None].sin())[:, None], self.enter(x)
        for block in self.blocks:
            x = block(x, c, text)
        return self.leave(x)


CALL = (noise(2, 6, 4), torch.full((2,), 900.0))


def kinds(model: nn.Module, *args: Tensor) -> list[str]:
    return [branch.kind for branch in captured(model.eval(), *args, options={"cache_ratio": 0.5}).plan.branches]


@cache
def usual_flops() -> tuple[int, int]:
    return flops.count(flops.operations(captured(Model(attention).eval(), *CALL).capture.gm))


@pytest.mark.parametrize("name", [*COUNTED, *UNCOUNTED])
def test_it_is_attention_and_mixes_tokens(name: str) -> None:
    attend = {**COUNTED, **UNCOUNTED}[name]
    found = captured(Model(attend).eval(), *CALL)
    assert [branch.kind for branch in found.plan.branches] == ["attention", "MLP"] * 2
    refusal = found.plan.branches[0].refusal
    assert refusal is not None
    assert refusal.endswith("mixes tokens on every path")
    assert "auto_functionalized" not in refusal, "the operation is named, not what has it write to a copy"
    assert len(found.plan.facts.blocks) == 2
    assert kinds(Model(attend, Parallel), *CALL) == ["attention + MLP"] * 2


@pytest.mark.parametrize("name", COUNTED)
def test_its_flops_are_those_of_pytorch_s_attention(name: str) -> None:
    model = Model(COUNTED[name]).eval()
    want = usual_flops()
    assert flops.count(flops.operations(captured(model, *CALL).capture.gm)) == want
    with Executed() as eager:
        model(*CALL)
    assert (eager.flops, eager.unknown) == (sum(want), False)
    assert "not counted" not in str(duca_compile.explain(model, *CALL))


@pytest.mark.parametrize("name", UNCOUNTED)
def test_a_note_tells_what_is_not_counted(name: str) -> None:
    told = " ".join(str(duca_compile.explain(Model(UNCOUNTED[name]).eval(), *CALL)).split())
    assert told.count("its FLOPs are not counted: ") == 2
    assert f"the schema of own.{name} does not tell where its tokens lie" in told


@pytest.mark.parametrize("name", ["FlashAttention 2", "FlashAttention 2, packed", "SageAttention's kernel"])
@pytest.mark.parametrize("inner", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_steps_are_cached(name: str, inner: str) -> None:
    model, x = Model(COUNTED[name]).eval(), CALL[0]
    run = compiled(model, inner=inner)
    for step in range(4):
        t = torch.full((2,), 980.0 - 20 * step)
        got, want = run(x, t), model(x, t)
        assert relative_error(got, want) < (1e-5 if step == 0 else 0.3)
        x = x - 0.01 * want
    assert duca_compile.stats(model).steps == {Mode.FULL: 1, Mode.CONSERVATIVE: 2, Mode.AGGRESSIVE: 1}


def test_keys_of_a_text_do_not_make_it_token_wise() -> None:
    model = Model(COUNTED["FlashAttention 3"], text=8)
    assert kinds(model, *CALL, noise(2, 3, 8)) == ["attention", "MLP"] * 2


def test_what_turns_queries_keys_and_values_is_no_attention() -> None:
    model = Model(lambda q, k, v: sum(torch.ops.own.rotate(q, k, v)))
    assert kinds(model, *CALL) == ["mixing", "MLP"] * 2


def test_layouts_and_widths() -> None:
    """Tokens, heads and features: 6, 2 and 8 of queries, 3, 1 and 8 of keys, 4 features of values."""
    with fake_tensors():
        q, k, v = torch.empty(5, 6, 2, 8), torch.empty(5, 3, 1, 8), torch.empty(5, 3, 1, 4)
        turned = [each.transpose(1, 2) for each in (q, k, v)]
        want = 2 * 5 * 2 * 6 * 3 * (8 + 4)
        flash, sage = torch.ops.as_flash_attn_4.fwd.default, torch.ops.as_sageattention.sageattn.default
        assert attention_ops.flops(flash, (q, k, v), {}) == want
        assert attention_ops.flops(sage, (q, k, v, "NHD"), {}) == want
        assert attention_ops.flops(sage, tuple(turned), {}) == want
        assert attention_ops.flops(torch.ops.own.mha.default, tuple(turned), {}) == want
        assert attention_ops.flops(torch.ops.own.untold.default, tuple(turned), {}) is None
        paged = torch.empty(7, 16, 2, 8)
        op = torch.ops.as_flash_attn._flash_attn_varlen_forward.default
        starts = torch.empty(3, dtype=torch.int32)
        assert attention_ops.flops(op, (q[0], paged, paged, starts, starts, 6, 6, 0.0, 0.3, False), {}) is None
