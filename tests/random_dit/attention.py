"""Bodies of random models that attend."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from random_dit.layouts import FLAT, HEADS, Heard, Weights


def heads(y: Tensor) -> Tensor:
    return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def joined(y: Tensor) -> Tensor:
    return y.transpose(1, 2).flatten(2)


def matching(context: Tensor, y: Tensor) -> Tensor:
    """The conditioning in the dtype of `y`, repeated where `y` has tokens folded into its batch."""
    return context.to(y.dtype).repeat_interleave(len(y) // len(context), 0)


def sdpa(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    q, k, v = (heads(piece) for piece in FLAT.linear(w.qkv, y).chunk(3, -1))
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v)))


def causal(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    q, k, v = FLAT.linear(w.qkv, y).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v, is_causal=True)))


def manual_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    q, k, v = (heads(FLAT.linear(layer, y)) for layer in (w.q, w.k, w.v))
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return FLAT.linear(w.o, joined(scores.softmax(-1) @ v))


def linear_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    q, k, v = (heads(FLAT.linear(layer, y)) for layer in (w.q, w.k, w.v))
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    total = q @ (k.transpose(-1, -2) @ v)
    return FLAT.linear(w.o, joined(total / (q @ k.sum(2, keepdim=True).transpose(-1, -2) + 1)))


def window(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    if y.shape[1] % 2:
        return sdpa(w, y, heard)
    apart = y.reshape(-1, y.shape[1] // 2, y.shape[2])
    return sdpa(w, apart, heard).reshape(y.shape)


def shifted_window(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    return window(w, y.roll(1, 1), heard).roll(-1, 1)


def axial_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Every second token, the other dimension moved into the batch."""
    if y.shape[1] % 2:
        return sdpa(w, y, heard)
    apart = y.unflatten(1, (2, -1)).transpose(1, 2)
    return sdpa(w, apart.flatten(0, 1), heard).unflatten(0, apart.shape[:2]).transpose(1, 2).flatten(1, 2)


def grouped_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """More query heads than key heads."""
    q = heads(FLAT.linear(w.q, y))
    k, v = (FLAT.linear(layer, y)[..., : y.shape[-1] // HEADS].unsqueeze(1) for layer in (w.k, w.v))
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)))


def biased_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    q, k, v = (heads(FLAT.linear(layer, y)) for layer in (w.q, w.k, w.v))
    bias = w.across.weight[: y.shape[1], : y.shape[1]].to(y.dtype)
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)))


def cross_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    context = matching(heard.context, y)
    q, k, v = heads(FLAT.linear(w.q, y)), heads(FLAT.linear(w.k, context)), heads(FLAT.linear(w.v, context))
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v)))


def manual_cross_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    context = matching(heard.context, y)
    scores = (FLAT.linear(w.q, y) @ FLAT.linear(w.k, context).transpose(1, 2)).softmax(-1)
    return FLAT.linear(w.o, torch.bmm(scores, FLAT.linear(w.v, context)))


def biased_cross_attention(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """A mask with a row for every query."""
    context = matching(heard.context, y)
    bias = (w.places[: y.shape[1]].to(y.dtype) @ context.transpose(1, 2))[:, None]
    q, k, v = heads(FLAT.linear(w.q, y)), heads(FLAT.linear(w.k, context)), heads(FLAT.linear(w.v, context))
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)))


def attend_to_feature(w: Weights, y: Tensor, heard: Heard) -> Tensor:
    """Cross-attention to another branch's feature."""
    if not heard.features or len(heard.features[-1]) != len(y):
        return sdpa(w, y, heard)
    other = heard.features[-1].to(y.dtype)
    k, v = heads(FLAT.linear(w.k, other)), heads(FLAT.linear(w.v, other))
    return FLAT.linear(w.o, joined(functional.scaled_dot_product_attention(heads(FLAT.linear(w.q, y)), k, v)))
