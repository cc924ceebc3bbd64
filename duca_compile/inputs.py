"""Tells the call's arguments apart: latents, timestep, conditioning."""

import torch
from torch import Tensor, fx

from duca_compile import ir, torch_private
from duca_compile.facts import Inputs

aten = torch.ops.aten
OSCILLATIONS = (aten.sin, aten.cos)


def find_inputs(graph: fx.Graph, arguments: tuple[str, ...]) -> Inputs:
    """`arguments` are the names of the inputs that are no parameter, buffer or constant."""
    nodes = [node for node in ir.placeholders(graph) if node.name in arguments and isinstance(ir.value(node), Tensor)]
    latents = _latents(graph, nodes)
    timestep = _timestep(nodes, latents)
    rest = tuple(node.name for node in nodes if node not in (latents, timestep))
    spelled = {node.name: str(node.meta.get("argument", node.name)) for node in nodes}
    return Inputs(latents.name if latents else None, timestep.name if timestep else None, rest, spelled)


def _latents(graph: fx.Graph, nodes: list[fx.Node]) -> fx.Node | None:
    """The argument that the result looks like: of equal shape, or equal in all dimensions but one (the channels)."""
    results = [_shape_now(node) for node in ir.output_node(graph).all_input_nodes]
    candidates = [node for node in nodes if len(_shape_now(node) or ()) >= 2 and ir.value(node).is_floating_point()]
    for differing in (0, 1):
        for node in candidates:
            if any(_differing_dims(_shape_now(node), result) == differing for result in results):
                return node
    return None


def _shape_now(node: fx.Node) -> tuple[int, ...] | None:
    """In numbers even where sizes are symbolic: the latents' height seldom is the result's by structure."""
    held = ir.value(node)
    return tuple(torch_private.size_now(dim) for dim in held.shape) if isinstance(held, Tensor) else None


def _differing_dims(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> int | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return sum(x != y for x, y in zip(a, b, strict=True))


def _timestep(nodes: list[fx.Node], latents: fx.Node | None) -> fx.Node | None:
    """The one argument whose values, and nothing else's, become the phases of a sinusoidal embedding.

    Guidance strength is embedded the same way by guidance-distilled models (FLUX); of several candidates the one named
    for time is taken, and without such a name there is no answer.
    """
    batch = (_shape_now(latents) or (1,))[0] if latents is not None else None
    candidates = [node for node in nodes if node is not latents and _could_be_time(node, batch) and _oscillates(node)]
    if len(candidates) > 1:
        candidates = [node for node in candidates if _named_for_time(node)]
    return candidates[0] if len(candidates) == 1 else None


def _could_be_time(node: fx.Node, batch: int | None) -> bool:
    have = _shape_now(node) or ()
    return (
        len(have) == 0
        or (len(have) == 1 and (batch is None or have[0] in (1, batch)))
        or (len(have) == 2 and have[0] == batch)
    )


def _named_for_time(node: fx.Node) -> bool:
    name = str(node.meta.get("argument", node.name)).strip("_").lower()
    return "time" in name or name.split("_")[-1] in ("t", "sigma", "noise")


def _oscillates(node: fx.Node) -> bool:
    """Whether a sine or cosine is taken of the argument scaled, before anything learned touches it."""
    seen, stack = set(), [node]
    while stack:
        current = stack.pop()
        if ir.packet(current) in OSCILLATIONS:
            return True
        if current in seen or ir.packet(current) in (aten.linear, aten.embedding, aten.matmul):
            continue
        seen.add(current)
        stack.extend(current.users)
    return False
