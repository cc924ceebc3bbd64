"""Tells a block that was compiled by itself from a whole model: its caller's loop over the blocks is out of sight."""

from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.analysis.facts import Facts
from duca_compile.generations import sessions
from duca_compile.graph import ir
from duca_compile.refusal import COUNT_THEM, Refused

WHOLE_MODEL = 'compile the whole model instead, torch.compile(model, backend="duca") or model.compile(backend="duca")'


def refuse_block(graph: fx.Graph, facts: Facts) -> None:
    """Raises `Refused` for a block. No session helps it: its modulation, another at every step, is an argument.

    A model embeds its latents before the streams and projects these to its result; a block learns nothing before or
    after them, and has no timestep of its own.
    """
    if facts.inputs.timesteps:
        return
    weights = {
        node.name
        for node in ir.placeholders(graph)
        if isinstance(ir.value(node), Tensor) and node.name not in facts.inputs.spelled
    }
    roots = {stream.root for stream in facts.streams}
    sums = {branch.sum for branch in facts.branches}
    before = ir.ancestors([node for node in graph.nodes if node.name in roots])
    after = ir.ancestors([ir.output_node(graph)], stop=lambda node: node.name in sums)
    if all(node.name not in weights for node in before | after):
        raise Refused(
            "the compiled module takes its stream as an argument and returns it, without a timestep: it is a block of "
            f"a model (compile_repeated_blocks makes such); {WHOLE_MODEL}"
        )


def refuse_submodule() -> None:
    """Raises `Refused` where what was compiled, which has no timestep, runs as a part of another module.

    It may still be the denoiser, in a module that holds a whole pipeline: a session that counts says that it is.
    """
    outer = torch_private.enclosing_module()
    if outer is not None and not sessions.counts():
        raise Refused(
            f"no timestep was found in the compiled module, which is a part of {type(outer).__name__}; if that is the "
            f"denoising model, {WHOLE_MODEL}. If it is not, its steps cannot be told apart: {COUNT_THEM}"
        )
