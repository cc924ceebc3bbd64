"""Attention as other libraries register it: FlashAttention, SageAttention, xFormers, or a user's own.

No library is named or imported. An operation is attention if its schema asks for tensors `q`, `k` and `v`, or `query`,
`key` and `value`, and it has one result of the query's form; what turns all three has more. Without such a schema its
name tells. Nothing here says that it is token-wise: what no rule knows mixes tokens.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile.graph import ir
from duca_compile.torch_private import OpOverload, Size, schema, tree_leaves

aten = torch.ops.aten
OF_TORCH = (aten.scaled_dot_product_attention, torch.ops.higher_order.flex_attention)
ROLES = (("q", "query"), ("k", "key"), ("v", "value"))
NAMED = ("attn", "attention")
LAYOUTS = {"NHD": 1, "BSHD": 1, "BSND": 1, 0: 1, "HND": 2, "BHSD": 2, "BNSD": 2, 1: 2}
"""Where the tokens lie, by what a layout argument says; SageAttention's kernels take 0 and 1."""
LAYOUT_ARGUMENTS = ("tensor_layout", "layout")
FLASH = frozenset(("softmax_scale", "window_size", "window_size_left"))
"""FlashAttention's names of arguments, which go with its `[batch, tokens, heads, features]`."""
DENSE = frozenset(("attn_mask", "is_causal"))
"""Those of PyTorch's own function, which go with `[batch, heads, tokens, features]`."""


def is_attention(node: fx.Node) -> bool:
    if ir.packet(node) in OF_TORCH:
        return True
    op = ir.operation(node.target, node.args)
    if op is None or not (_roles(op) or _is_named(op)):
        return False
    results = [each for each in tree_leaves(ir.value(node)) if isinstance(each, Tensor)]
    if not _roles(op):
        return any(each.is_floating_point() and each.dim() > 2 for each in results)
    query = ir.shape(_operands(node)[0]) or ()
    return sum(each.dim() == len(query) and ir.sizes(each)[:-1] == query[:-1] for each in results) == 1


def remembered(node: fx.Node) -> tuple[Any, ...]:
    """The keys and values of an attention; none where its schema does not tell them."""
    return _operands(node)[1:]


def uncounted(node: fx.Node) -> str | None:
    """Why the FLOPs of an attention cannot be told; None where they can, and for what is no attention."""
    op = ir.operation(node.target, node.args)
    if op is None or op.namespace == "aten" or not is_attention(node):
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), ir.value)
    told = flops(node.target, args, kwargs) is not None
    return None if told else f"the schema of {op.overloadpacket} does not tell where its tokens lie"


def flops(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Of attention that torch has no formula for, 2 per multiply-add, as if dense; None where they cannot be told.

    Packed sequences count as equally long: how long they are, only their data tells.
    """
    op = ir.operation(target, args)
    roles = _roles(op) if op is not None and op.namespace != "aten" else ()
    if op is None or not roles:
        return None
    given = _given(target, op, args, kwargs)
    query, key, value = (given[name] for name in roles)
    q, k, v = (ir.sizes(each) for each in (query, key, value))
    width = q[-1] + (v[-1] if len(v) == len(k) and v[:-1] == k[:-1] else q[-1])
    if len(q) == len(k) == 3:
        starts = next((each for name, each in given.items() if name.startswith("cu_seq") and each is not None), None)
        return None if starts is None else 2 * q[0] * q[1] * k[0] * width // (ir.sizes(starts)[0] - 1)
    tokens = _tokens(given, q, k) if len(q) == len(k) == 4 else None
    return None if tokens is None else 2 * q[0] * q[1] * q[2] * k[tokens] * width


def _tokens(given: Mapping[str, Any], query: tuple[Size, ...], key: tuple[Size, ...]) -> int | None:
    """Which of the two dimensions between samples and features they lie in; heads lie in the other."""
    for name in LAYOUT_ARGUMENTS:
        if given.get(name) in LAYOUTS:
            return LAYOUTS[given[name]]
    if given.keys() & FLASH or key[1] == key[2]:
        return 1
    return 2 if given.keys() >= DENSE else None


def _operands(node: fx.Node) -> tuple[Any, ...]:
    op = ir.operation(node.target, node.args)
    if op is None:
        return ()
    given = _given(node.target, op, node.args, node.kwargs)
    return tuple(given[name] for name in _roles(op))


def _given(target: Any, op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return ir.given(op, args if target is op else (), kwargs)


@functools.cache
def _roles(op: OpOverload) -> tuple[str, ...]:
    """The names of its query, key and value; none if it lacks one."""
    tensors = [each.name for each in schema(op).arguments if str(each.type) == "Tensor"]
    found = tuple(name for names in ROLES for name in tensors if name in names)
    return found if len(found) == len(ROLES) else ()


@functools.cache
def _is_named(op: OpOverload) -> bool:
    _, _, name = str(op.overloadpacket).partition(".")
    return op.namespace != "aten" and any(word in name for word in NAMED)
