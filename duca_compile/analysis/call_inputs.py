"""Tells the call's arguments apart: latents, timesteps, conditioning."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.analysis.facts import Inputs
from duca_compile.graph import ir
from duca_compile.graph.op_sets import CASTS, OSCILLATIONS

aten = torch.ops.aten
FIXED = ("encoder", "cond", "context", "control", "prompt", "text", "caption", "embed", "ref", "image", "mask", "pose")
"""Parts of the names of arguments that no sampler denoises, although a result may look like them."""
DENOISED = ("hidden_states", "latent", "sample", "nois")
"""Parts of the names of arguments that samplers do denoise."""
USUAL = ("hidden_states", "latents", "sample", "x", "z", "x_t", "z_t")


def find_inputs(graph: fx.Graph, arguments: tuple[str, ...]) -> Inputs:
    """`arguments` are the names of the inputs that are no parameter, buffer or constant."""
    nodes = [node for node in ir.placeholders(graph) if node.name in arguments and isinstance(ir.value(node), Tensor)]
    latents = _latents(graph, nodes)
    timesteps = _timesteps(nodes, latents)
    rest = tuple(node.name for node in nodes if node not in (*latents, *timesteps))
    spelled = {node.name: str(node.meta.get("argument", node.name)) for node in nodes}
    return Inputs(tuple(node.name for node in latents), tuple(node.name for node in timesteps), rest, spelled)


def _latents(graph: fx.Graph, nodes: list[fx.Node]) -> list[fx.Node]:
    """The arguments that the results look like, one for each.

    The first is taken by its shape; its name only chooses among several. The arguments of further results, such as
    audio beside video, must also be named as such, or be items of the same list: models return the states of their
    text, too. What is not taken counts as conditioning, which is safe: when that changes, a new trajectory starts.
    """
    found: list[fx.Node] = []
    for result in ir.output_node(graph).all_input_nodes:
        shape = _real_shape(result)
        likenesses = _LIKENESSES if not found else _OF_FURTHER
        free = [node for node in nodes if node not in found and _may_join(node, found)]
        alike = [node for likeness in likenesses for node in free if likeness(node, shape)]
        found += sorted(alike, key=lambda node: _unlikeliness(_name(node)))[:1]
    return found


def _may_join(node: fx.Node, found: list[fx.Node]) -> bool:
    return (
        not found
        or _is_denoised(node)
        or any(node.meta.get("list") == other.meta.get("list") is not None for other in found)
    )


def _is_denoised(node: fx.Node) -> bool:
    return _has_part(_name(node), DENOISED) and not _has_part(_name(node), FIXED)


def _is_noise(node: fx.Node) -> bool:
    held = ir.value(node)
    return len(held.shape) >= 2 and (held.is_floating_point() or held.is_complex())


def _of_equal_shape(node: fx.Node, result: tuple[int, ...] | None) -> bool:
    return _is_noise(node) and _differing_dims(_real_shape(node), result) == 0


def _of_other_channels(node: fx.Node, result: tuple[int, ...] | None) -> bool:
    return _is_noise(node) and _differing_dims(_real_shape(node), result) == 1


def _of_other_rank(node: fx.Node, result: tuple[int, ...] | None) -> bool:
    """As where a model takes an image and gives its patches."""
    have = _real_shape(node) or ()
    if result is None or not _is_noise(node) or len(have) == len(result) or min(len(have), len(result)) < 3:
        return False
    return have[0] == result[0] and math.prod(have) == math.prod(result)


def _of_multiple_size(node: fx.Node, result: tuple[int, ...] | None) -> bool:
    """As where a model gives a larger image than it takes."""
    have = _real_shape(node) or ()
    if result is None or not _is_noise(node) or len(have) != len(result) or len(have) < 4 or have[0] != result[0]:
        return False
    return all(size and larger % size == 0 for size, larger in zip(have, result, strict=True))


def _of_classes(node: fx.Node, result: tuple[int, ...] | None) -> bool:
    """Discrete diffusion: a class per position in, a value per class and position out."""
    have = _shape_now(node) or ()
    if result is None or len(have) < 2 or len(result) != len(have) + 1 or ir.value(node).is_floating_point():
        return False
    return any(have == (*result[:dim], *result[dim + 1 :]) for dim in range(1, len(result)))


_LIKENESSES = (_of_equal_shape, _of_other_rank, _of_other_channels, _of_classes, _of_multiple_size)


def _shape_now(node: fx.Node) -> tuple[int, ...] | None:
    """In numbers even where sizes are symbolic: the latents' height seldom is the result's by structure."""
    held = ir.value(node)
    return tuple(torch_private.size_now(dim) for dim in held.shape) if isinstance(held, Tensor) else None


_OF_FURTHER = (_of_equal_shape, _of_other_channels)


def _real_shape(node: fx.Node) -> tuple[int, ...] | None:
    """With complex numbers as twice as many real ones."""
    shape = _shape_now(node)
    return (*shape[:-1], 2 * shape[-1]) if shape and ir.value(node).is_complex() else shape


def _differing_dims(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> int | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return sum(x != y for x, y in zip(a, b, strict=True))


def _timesteps(nodes: list[fx.Node], latents: list[fx.Node]) -> list[fx.Node]:
    """The arguments whose values, and nothing else's, become the phases of a sinusoidal embedding.

    Several are told by their names: a model may embed two times (the ends of a step, one time for each of two latents),
    and guidance-distilled ones embed the guidance strength in the same way (FLUX), or the size of the image. Where what
    is named for time is embedded otherwise, by layers alone, a number for a sample is taken for it. Without such names,
    no answer. What is wrongly taken for a timestep stands still, and nothing is cached.
    """
    batch = (_shape_now(latents[0]) or (1,))[0] if latents else None
    embedded = [node for node in nodes if node not in latents and _oscillates(node)]
    named = [node for node in nodes if node not in latents and is_named_for_time(_name(node))]
    known = [node for node in named if node in embedded or _is_looked_up(node)]
    alone = len(embedded) == 1 and _could_be_time(embedded[0], batch)
    learned = [node for node in named if len(_shape_now(node) or ()) < 2 and _could_be_time(node, batch)]
    if alone and (known or not learned):
        return embedded
    return known or learned


def _could_be_time(node: fx.Node, batch: int | None) -> bool:
    have = _shape_now(node) or ()
    return (
        len(have) == 0
        or (len(have) == 1 and (batch is None or have[0] in (1, batch)))
        or (len(have) == 2 and have[0] == batch)
    )


def is_named_for_time(name: str) -> bool:
    return "time" in name or name.split("_")[-1] in ("t", "sigma", "noise")


def likeliest_latents(given: Mapping[str, Tensor]) -> str | None:
    """The one name among a call's tensors that is most likely the latents'.

    A wrong choice costs speed only: latents that count as conditioning start a new trajectory at every step.
    """
    wide = [name for name, tensor in given.items() if tensor.dim() >= 2]
    return min(wide, key=_unlikeliness) if wide else None


def _unlikeliness(name: str) -> tuple[bool, bool]:
    return _has_part(name, FIXED), name not in USUAL


def _has_part(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in name for part in parts)


def _name(node: fx.Node) -> str:
    return str(node.meta.get("argument", node.name)).strip("_").lower()


def _is_looked_up(node: fx.Node) -> bool:
    """Whether the argument chooses rows of a table of embeddings, one for a sample."""
    casts = [user for user in node.users if ir.packet(user) in CASTS]
    tables = [user for each in (node, *casts) for user in each.users if ir.packet(user) is aten.embedding]
    return bool(tables) and len(_shape_now(node) or ()) < 2


def _oscillates(node: fx.Node) -> bool:
    """Whether a sine or cosine is taken of the argument scaled, before anything learned touches it."""
    seen, stack = set(), [node]
    while stack:
        current = stack.pop()
        if ir.packet(current) in OSCILLATIONS:
            return True
        if current in seen or _is_learned(current):
            continue
        seen.add(current)
        stack.extend(current.users)
    return False


def _is_learned(node: fx.Node) -> bool:
    """A matrix product over one number is a scaling: Fourier features are written so."""
    if ir.packet(node) not in (aten.linear, aten.embedding, aten.matmul):
        return False
    factor: fx.Node = node.args[0]  # type: ignore[assignment]
    return ir.packet(node) is aten.embedding or (ir.shape(factor) or (0,))[-1] != 1
