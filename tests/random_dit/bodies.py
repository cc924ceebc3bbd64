"""Bodies of random models, and the table of them all."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from random_dit.attention import (
    attend_to_feature,
    axial_attention,
    biased_attention,
    biased_cross_attention,
    causal,
    cross_attention,
    grouped_attention,
    heads,
    joined,
    linear_attention,
    manual_attention,
    manual_cross_attention,
    sdpa,
    shifted_window,
    window,
)
from random_dit.layouts import FLAT, HEADS, Heard, Layout, Weights

Body = Callable[[Weights, Tensor, Layout, Heard], Tensor]


def on_sequence(body: Callable[[Weights, Tensor, Heard], Tensor]) -> Body:
    return lambda w, y, layout, heard: layout.laid(body(w, layout.flat(y), heard))


def rotary(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Queries turned and stretched by their position, as complex numbers where the dtype has any."""
    q, angles = FLAT.linear(w.q, y), w.places[: y.shape[1], : y.shape[2] // 2].to(y.dtype)
    if y.dtype == torch.bfloat16:
        left, right = q.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angles.exp() * angles.cos(), angles.exp() * angles.sin()
        turned = torch.stack([left * cos - right * sin, left * sin + right * cos], -1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(q.unflatten(-1, (-1, 2))) * torch.polar(angles.exp(), angles))
    return FLAT.linear(w.o, turned.flatten(-2))


def einsums(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A matrix for every head, spelled as einsum."""
    split = FLAT.linear(w.q, y).unflatten(-1, (HEADS, -1))
    each = w.pairs.weight[: y.shape[-1], : y.shape[-1]].to(y.dtype)
    mixed = torch.einsum("bnhd,hde->bnhe", split, each.reshape(HEADS, -1, split.shape[-1])[:, : split.shape[-1]])
    return torch.einsum("bnd,ed->bne", mixed.flatten(2).sin(), w.o.weight.to(y.dtype))


def codebook(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A row of a table for every token, by the token's own choice."""
    choice = FLAT.linear(w.router, y).argmax(-1)
    return FLAT.linear(w.o, y) * functional.embedding(choice, w.places.to(y.dtype))


def first_token(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    return gelu(w, y * y[:, :1].sigmoid(), FLAT, heard)


def cumulative(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    return gelu(w, y.cumsum(1) / y.shape[1] + y, FLAT, heard)


def half_of_the_tokens(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    first, second = y.split([y.shape[1] // 2, y.shape[1] - y.shape[1] // 2], 1)
    return torch.cat([gelu(w, first, FLAT, heard), FLAT.linear(w.o, second)], 1)


def gelu(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    hidden = layout.linear(w.up, y)
    if heard.in_place:
        hidden.mul_(0.5)
    heard.hidden = functional.gelu(hidden)
    return layout.linear(w.down, heard.hidden)


def swiglu(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    heard.hidden = functional.silu(layout.linear(w.gate, y)) * layout.linear(w.up, y)
    return layout.linear(w.down, heard.hidden)


def geglu(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    left, right = layout.linear(w.up, y).chunk(2, layout.feature_dim)
    return layout.linear(w.o, left * functional.gelu(right))


def gelu_with_convolution(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    hidden = FLAT.linear(w.up, y).transpose(1, 2)
    weight, bias = w.conv.weight.to(y.dtype), w.conv.bias
    hidden = functional.conv1d(
        hidden, weight, bias.to(y.dtype) if bias is not None else None, padding=1, groups=len(weight)
    )
    return FLAT.linear(w.down, functional.gelu(hidden).transpose(1, 2))


def parallel(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """One linear layer into attention and MLP, and one out of both."""
    width = y.shape[-1]
    qkv, hidden = FLAT.linear(w.joint_in, y).split([3 * width, 2 * width], -1)
    q, k, v = (heads(piece) for piece in qkv.chunk(3, -1))
    mixed = joined(functional.scaled_dot_product_attention(q, k, v))
    heard.hidden = functional.gelu(hidden)
    return FLAT.linear(w.joint_out, torch.cat([mixed, heard.hidden], -1))


def parallel_sum(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    return layout.laid(manual_attention(w, layout.flat(y), heard)) + gelu(w, y, layout, heard)


def experts(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    shares = layout.linear(w.router, y).softmax(layout.feature_dim)
    results = [layout.linear(expert, y) for expert in w.experts if isinstance(expert, nn.Linear)]
    parts = [shares.narrow(layout.feature_dim, at, 1) * result for at, result in enumerate(results)]
    return functional.gelu(sum(parts[1:], parts[0]))


def best_expert(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    shares = FLAT.linear(w.router, y).softmax(-1)
    best = (shares == shares.amax(-1, keepdim=True)).to(y.dtype) * shares
    results = torch.stack([FLAT.linear(expert, y) for expert in w.experts if isinstance(expert, nn.Linear)], -1)
    return functional.silu((results @ best[..., None]).squeeze(-1))


def with_feature(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Reads another branch's feature beside its own stream."""
    for other in heard.features[-1:]:
        y = y * other.to(y.dtype) if other.shape == y.shape else y
    return gelu(w, y, FLAT, heard)


def with_hidden(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    """Reads a value from inside another branch's body."""
    mine, other = layout.linear(w.up, y), heard.hidden
    heard.hidden = functional.gelu(mine)
    if other is not None and other.shape == mine.shape:
        return layout.linear(w.down, heard.hidden * other.to(y.dtype))
    return layout.linear(w.down, heard.hidden)


def scaled_by_mean(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    pooled = functional.silu(FLAT.linear(w.squeeze, layout.flat(y).mean(1)))
    return gelu(w, y * layout.over_tokens(pooled), layout, heard)


def scaled_by_softmax(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A softmax over tokens inside an MLP."""
    return FLAT.linear(w.o, functional.gelu(FLAT.linear(w.q, y)) * FLAT.linear(w.k, y).softmax(1))


def token_shift(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    return FLAT.linear(w.o, functional.gelu(FLAT.linear(w.q, y) + FLAT.linear(w.k, y.roll(1, 1))))


def halves_swapped(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    return FLAT.linear(w.o, functional.gelu(FLAT.linear(w.q, torch.cat(y.chunk(2, 1)[::-1], 1))))


def flattened(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Tokens flattened together with the batch, beside a table repeated for it."""
    rows = y.reshape(-1, y.shape[-1]) + w.places[: y.shape[1]].to(y.dtype).repeat(len(y), 1)
    return FLAT.linear(w.down, functional.gelu(FLAT.linear(w.up, rows))).reshape(y.shape)


def merged_pairs(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Every two tokens become one: a reshape that looks like a change of features."""
    if y.shape[1] % 2:
        return token_shift(w, y, heard)
    return FLAT.linear(w.pairs, y.reshape(len(y), -1, 2 * y.shape[2])).relu().reshape(y.shape)


def mixer(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A linear layer along tokens, where there may be as many tokens as features."""
    tokens = y.shape[1]
    across = w.across.weight[:tokens, :tokens].to(y.dtype)
    return functional.linear(FLAT.linear(w.q, y).transpose(1, 2), across).transpose(1, 2).relu()


def misread(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A transposed value read as if it were not: sizes agree, tokens do not."""
    return FLAT.linear(w.o, FLAT.linear(w.q, y).relu().transpose(1, 2).reshape(y.shape))


def registered(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A token joins the sequence for the MLP and leaves again."""
    longer = torch.cat([w.places[:1].to(y.dtype).expand(len(y), 1, -1), y], 1)
    return FLAT.linear(w.down, functional.gelu(FLAT.linear(w.up, longer)))[:, 1:]


def attends_then_gelu(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    """Mixing first, then token by token, under one gate."""
    return gelu(w, y + layout.laid(sdpa(w, layout.flat(y), heard)), layout, heard)


def inner_residual(w: Weights, y: Tensor, layout: Layout, heard: Heard) -> Tensor:
    """A body with a residual addition of its own."""
    return layout.linear(w.o, y + layout.linear(w.q, y).relu())


BODIES: dict[str, Body] = {
    "sdpa": on_sequence(sdpa), "causal": on_sequence(causal), "manual attention": on_sequence(manual_attention),
    "linear attention": on_sequence(linear_attention), "window": on_sequence(window),
    "shifted window": on_sequence(shifted_window), "cross-attention": on_sequence(cross_attention),
    "manual cross-attention": on_sequence(manual_cross_attention), "attend to feature": on_sequence(attend_to_feature),
    "grouped attention": on_sequence(grouped_attention), "biased attention": on_sequence(biased_attention),
    "biased cross-attention": on_sequence(biased_cross_attention), "axial attention": on_sequence(axial_attention),
    "rotary": on_sequence(rotary), "einsums": on_sequence(einsums), "codebook": on_sequence(codebook),
    "first token": on_sequence(first_token), "cumulative": on_sequence(cumulative),
    "half of the tokens": on_sequence(half_of_the_tokens),
    "gelu": gelu, "swiglu": swiglu, "geglu": geglu, "convolution": on_sequence(gelu_with_convolution),
    "parallel": on_sequence(parallel), "parallel sum": parallel_sum, "experts": experts,
    "best expert": on_sequence(best_expert), "with feature": on_sequence(with_feature), "with hidden": with_hidden,
    "scaled by mean": scaled_by_mean, "scaled by softmax": on_sequence(scaled_by_softmax),
    "token shift": on_sequence(token_shift), "halves swapped": on_sequence(halves_swapped),
    "flattened": on_sequence(flattened), "merged pairs": on_sequence(merged_pairs), "mixer": on_sequence(mixer),
    "misread": on_sequence(misread), "registered": on_sequence(registered),
    "attends then gelu": attends_then_gelu, "inner residual": inner_residual,
}  # fmt: skip
