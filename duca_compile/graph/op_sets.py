"""Sets of ops that several analyses ask for, each an overload packet of ATen."""

import torch

aten = torch.ops.aten

ADDITIONS = (aten.add, aten.addcmul, aten.sub)
"""Of a branch to its stream, which may also be taken away from it."""
CASTS = (aten._to_copy, aten.to, aten.clone, aten.contiguous)
CLAMPS = (aten.clamp, aten.clip, aten.nan_to_num, aten.clamp_min, aten.clamp_max)
CONVOLUTIONS = (aten.convolution, aten.conv1d, aten.conv2d, aten.conv3d)
CONTRACTIONS = (
    aten.linear, aten.matmul, aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.einsum, *CONVOLUTIONS,
    aten._grouped_mm,
)  # fmt: skip
QUANTISED_PRODUCTS = (
    aten._int_mm, aten._scaled_mm, aten._weight_int8pack_mm, aten._weight_int4pack_mm_for_cpu,
)  # fmt: skip
"""Of rows, in their first operand, with a weight in a form of its own."""
PRODUCTS_BY_NAME = {
    "aten._weight_int4pack_mm", "aten._weight_int4pack_mm_with_scales_and_zeros",
    "bitsandbytes.gemm_4bit", "bitsandbytes.gemv_4bit", "quanto.qbytes_mm",
}  # fmt: skip
"""The same of libraries, none of which is imported, and of torch where no CPU runs them. The rows are
`[..., features]`; all else belongs to the weight."""
SUMS_BY_NAME = {"_c10d_functional.all_reduce"}
"""Over processes, element by element: of tokens that are the same in each of them, the same tokens. A build of torch
may lack them."""
OSCILLATIONS = (aten.sin, aten.cos)
RESHAPES = (aten.view, aten.reshape, aten._unsafe_view)
SPLITS = (aten.split, aten.split_with_sizes, aten.chunk)
REORDERINGS = (*RESHAPES, aten.permute, aten.transpose, aten.t, aten.unsqueeze, aten.squeeze)
"""The same values under other indices."""
MOVES = (*REORDERINGS, aten.slice, aten.select, *SPLITS, aten.unbind, aten.cat, aten.stack)
"""They put values elsewhere and leave them as they are."""
SOFTMAXES = (aten.softmax, aten._softmax)
"""Of attention that is written out."""
LOOKUPS = (aten.embedding, aten.index, aten.index_select)
"""Of a table they read a few rows."""
ROUNDED_ALIKE = (aten.add, aten.sub, aten.mul, aten.div, aten.neg, aten._to_copy)
"""Their result at one position is rounded from the operands there alone, however they lie in memory."""


def is_quantised_product(packet: object) -> bool:
    return packet in QUANTISED_PRODUCTS or str(packet) in PRODUCTS_BY_NAME
