"""All facts about one captured graph: inputs, streams, branches, blocks."""

import zlib
from dataclasses import replace

import torch
from torch import fx

from duca_compile.analysis.blocks import find_blocks
from duca_compile.analysis.call_inputs import find_inputs
from duca_compile.analysis.chains import Chain, chains, without_nested
from duca_compile.analysis.facts import Branch, Facts, Stream
from duca_compile.analysis.order import Order, multiplies
from duca_compile.analysis.residuals import Residual, find_residuals
from duca_compile.analysis.token_paths import Layout, Liveness, layout_of, token_path
from duca_compile.capture.capture import Capture
from duca_compile.graph import ir
from duca_compile.graph.attention_ops import is_attention, remembered
from duca_compile.graph.op_sets import CONVOLUTIONS, SOFTMAXES
from duca_compile.refusal import Refusal, Refused, located
from duca_compile.torch_private import Size, is_data_dependent

aten = torch.ops.aten
STEM = "a convolution before or after the blocks, computed at every step"


def analyse(captured: Capture, whole: bool = True) -> Facts:
    """Raises `Refused` where there is no residual branch at all.

    Where the graph is not the `whole` forward pass, results that look like an argument do not tell the latents.
    """
    graph = captured.gm.graph
    inputs = find_inputs(graph, captured.arguments)
    if not whole:
        inputs = replace(inputs, latents=())
    order = Order(graph)
    residuals, refusals = find_residuals(graph, order)
    kept, nested = without_nested(chains(residuals, order), order)
    latents = ir.descendants(node for node in ir.placeholders(graph) if node.name in inputs.latents)
    kept, stems = _without_stems([chain for chain in kept if _carries_tokens(chain, latents)], order)
    if not kept:
        raise Refused("no residual branch `x + gate * f(x)` on a stream of tokens was found in this graph")
    number = {residual.sum: index for index, chain in enumerate(kept) for residual in chain.residuals}
    in_order = [residual for residual in residuals if residual.sum in number]
    live = _liveness(kept)
    for written in graph.find_nodes(op="call_function", target=aten.copy_.default):
        if written.args[1] in live.moving:
            raise Refused(f"%{written.name} changes %{written.args[0]} in place to what the blocks compute")
    branches = _describe_all(in_order, number, live)
    streams = tuple(
        Stream(index, chain.root.name, tuple(r.sum.name for r in chain.residuals), ir.shape(chain.root) or ())
        for index, chain in enumerate(kept)
    )
    blocks = find_blocks([branch.fingerprint for branch in branches])
    return Facts(captured.signature, inputs, streams, branches, blocks, (*refusals, *nested, *stems))


def _carries_tokens(chain: Chain, latents: set[fx.Node]) -> bool:
    """A stream is `[batch, *tokens, features]` and depends on the latents; embeddings of time or text do not.

    One whose size the data decides has another at the next step, for which no cache of it would be of use. `latents`
    are all that depends on them; none where they are not known.
    """
    size = ir.shape(chain.root) or ()
    rank = len(size)
    if is_data_dependent(size):
        return False
    if not latents:
        return rank >= 3
    return rank >= 2 and any(residual.sum in latents for residual in chain.residuals)


def _without_stems(kept: list[Chain], order: Order) -> tuple[list[Chain], list[Refusal]]:
    """Streams of convolutions alone, before the first block or after the last, are a part of the way in or out.

    Kept between steps they would be stale where it shows most: the result is made of them. Also what is left out.
    """
    live = _liveness(kept)
    blocks = [chain for chain in kept if not _convolves(chain, live)]
    sums = order.set_of(residual.sum for chain in blocks for residual in chain.residuals)
    read = 0
    for residual in (residual for chain in blocks for residual in chain.residuals):
        read |= order.above[residual.sum]
    stays, left_out = [], []
    for chain in kept:
        own = order.set_of(residual.sum for residual in chain.residuals)
        begins = not any(order.above[residual.feature] & sums for residual in chain.residuals)
        if sums and not own & sums and (begins or not own & read):
            left_out += [Refusal(residual.sum.name, STEM) for residual in chain.residuals]
        else:
            stays.append(chain)
    return stays, left_out


def _convolves(chain: Chain, live: Liveness) -> bool:
    """Whether all that its bodies multiply by is kernels of convolutions."""
    bodies = (node for residual in chain.residuals for node in _body(residual.feature, live))
    return all(ir.packet(node) in CONVOLUTIONS for node in bodies if _is_telling(node))


def _liveness(kept: list[Chain]) -> Liveness:
    roots = {chain.root for chain in kept}
    residuals = [residual for chain in kept for residual in chain.residuals]
    sums = {residual.sum for residual in residuals}
    features = {residual.feature for residual in residuals}
    return Liveness(
        frozenset(roots | sums | features),
        frozenset(ir.ancestors(roots, stop=lambda node: node in sums)),
        frozenset(ir.descendants(roots | sums)),
        frozenset(),
    )


def _describe_all(residuals: list[Residual], number: dict[fx.Node, int], live: Liveness) -> tuple[Branch, ...]:
    features: dict[int, list[fx.Node]] = {}
    for residual in residuals:
        features.setdefault(number[residual.sum], []).append(residual.feature)
    layouts = {stream: layout_of(own, live) for stream, own in features.items()}
    known = live
    branches = []
    for residual in residuals:
        stream = number[residual.sum]
        with located(residual.sum):
            branch = _describe(residual, stream, known, layouts[stream])
        if branch.path is None:
            known = replace(known, stale=known.stale | {residual.feature})
        branches.append(branch)
    return tuple(branches)


def _describe(residual: Residual, stream: int, live: Liveness, layout: Layout) -> Branch:
    feature, size = residual.feature, ir.shape(residual.feature) or ()
    body = _body(feature, live)
    found = token_path(feature, live, layout)
    path, refusal = (None, found) if isinstance(found, str) else (found, None)
    return Branch(
        sum=residual.sum.name,
        skip=residual.skip.name,
        addend=residual.addend.name,
        feature=feature.name,
        gates=tuple(gate.name for gate in residual.gates),
        stream=stream,
        kind=_kind(body, path is not None, live),
        source=ir.source(residual.sum),
        body=tuple(node.name for node in body),
        fingerprint=_fingerprint(body, size),
        shape=size,
        path=path,
        refusal=refusal,
    )


def _body(feature: fx.Node, live: Liveness) -> list[fx.Node]:
    """The moving nodes between stream values and the feature, in graph order."""

    def outside(node: fx.Node) -> bool:
        return node is not feature and (node in live.streams or node in live.prelude or node not in live.moving)

    return sorted(node for node in ir.ancestors([feature], stop=outside) if not outside(node))


def _kind(body: list[fx.Node], recomputable: bool, live: Liveness) -> str:
    attends = [node for node in body if _attends(node)]
    if not attends:
        return "MLP" if recomputable else "mixing"
    if not recomputable:
        return "attention"
    crossed = all((read := remembered(node)) and live.moving.isdisjoint(read) for node in attends)
    return "cross-attention" if crossed else "attention + MLP"


def _attends(node: fx.Node) -> bool:
    return is_attention(node) or ir.packet(node) in SOFTMAXES


def _is_telling(node: fx.Node) -> bool:
    """What makes a body what it is."""
    return multiplies(node) or ir.packet(node) in SOFTMAXES


def _fingerprint(body: list[fx.Node], size: tuple[Size, ...]) -> int:
    """A hash of the structure: contractions and attentions with their shapes, in order."""
    parts = [f"{node.target}{ir.shape(node)}" for node in body if _is_telling(node)]
    return zlib.crc32(repr((size, parts)).encode())
