"""Brings the graph Dynamo hands us to one normal form: functional, pre-dispatch ATen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from duca_compile import torch_private
from duca_compile.capture import autocast, randomness
from duca_compile.capture.canonicalise import canonicalise
from duca_compile.capture.constructors import without_constructors
from duca_compile.capture.flatten import Flatten
from duca_compile.capture.inline_calls import without_calls
from duca_compile.capture.unwrap import without_wrappers
from duca_compile.capture.vmap import without_vmap
from duca_compile.graph import ir
from duca_compile.graph.signature import Signature
from duca_compile.refusal import Random, Refused, data_decides


@dataclass(frozen=True)
class Capture:
    """A captured forward pass.

    `constants` are tensors that the Dynamo graph held as attributes. `autocast` names the devices on which it must be
    off when the graph runs: its casts are written out. `state` names the inputs that are parameters, buffers or
    constants; `arguments` names the rest. `flatten` makes the captured graph's inputs of Dynamo's.
    """

    gm: fx.GraphModule
    constants: tuple[Tensor, ...]
    state: frozenset[str]
    arguments: tuple[str, ...]
    flatten: Flatten
    autocast: tuple[str, ...] = ()

    @property
    def call(self) -> list[fx.Node]:
        """The call's own inputs, flat."""
        return ir.placeholders(self.gm.graph)[len(self.constants) :]

    @property
    def signature(self) -> Signature:
        names = tuple(node.name for node in ir.placeholders(self.gm.graph))
        return Signature(names[: len(self.constants)], names[len(self.constants) :])

    @property
    def viewed(self) -> list[int]:
        """The positions of the call's inputs that results may be views of."""
        owners = {ir.owner(result) for result in ir.output_node(self.gm.graph).all_input_nodes}
        return [at for at, node in enumerate(self.call) if node in owners]

    @property
    def symbols(self) -> dict[Any, int]:
        """The position of every symbolic size among the call's inputs."""
        own = self.call
        return {symbol: own.index(node) for symbol, node in ir.symbols(self.gm.graph).items()}


def capture(gm: fx.GraphModule, inputs: Sequence[Any]) -> Capture:
    """Raises `Refused` for what the rewrites could not keep right, such as a forward that changes its buffers."""
    if torch_private.inside_transform():
        raise Refused("the graph runs inside a functorch transform (vmap)")
    for node, value in zip(ir.placeholders(gm.graph), inputs, strict=True):
        _refuse_input(node, value)
    around = tuple(autocast.ambient())
    gm = _plain(gm, around)
    is_state = [torch_private.is_module_state(node) for node in ir.placeholders(gm.graph)]
    flatten = Flatten.like(inputs)
    with flatten.as_in_graph():
        exported, lifted, mutates = _export(gm, flatten(inputs), around)
    constants = tuple(_attribute(gm, name) for name in lifted)
    placeholders = ir.placeholders(exported.graph)
    names = [node.name for node in placeholders]
    own = names[len(constants) :]
    for node, original in zip(placeholders[len(constants) :], ir.placeholders(gm.graph), strict=True):
        node.meta["argument"] = torch_private.argument_of(original)
        node.meta["list"] = torch_private.list_of(original)
    state = names[: len(constants)] + [name for name, held in zip(own, is_state, strict=True) if held]
    written = exported.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)
    if mutates or any(node.args[0].name in state for node in written):
        told = "; if it is in training mode, call model.eval()" if randomness.trains(exported) else ""
        raise Refused(f"the forward pass changes one of its buffers in place{told}")
    for node in exported.graph.find_nodes(op="get_attr"):
        if torch_private.is_fake(_attribute(exported, str(node.target))):
            raise Refused(f"%{node.name} is made of others in a way that no capture sees, as by a constructor")
    for node in exported.graph.find_nodes(op="call_function", target=torch.ops.aten.as_strided.default):
        raise Refused(f"%{node.name} reads memory by its strides (as_strided), which a cached value need not share")
    canonicalise(exported)
    randomness.refuse_random(exported)
    arguments = tuple(name for name in own if name not in state)
    return Capture(exported, constants, frozenset(state), arguments, flatten, around)


def _refuse_input(node: fx.Node, value: Any) -> None:
    parts = torch_private.inner_tensors(value) if torch_private.is_wrapper(value) else ()
    foreign = next(filter(torch_private.overrides_functions, map(type, parts)), None)
    if foreign is not None:
        raise Refused(
            f"%{node.name} is a {type(value).__name__} made of a {foreign.__name__}, which runs Python in place of "
            "torch's functions; give the model plain tensors"
        )
    if torch_private.is_random(node):
        raise Random("the forward pass takes numbers from Python's random, and cached steps would repeat old ones")


def _plain(gm: fx.GraphModule, around: tuple[str, ...]) -> fx.GraphModule:
    """The Dynamo graph without all that a capture before dispatch cannot look into."""
    gm = autocast.with_casts(without_constructors(without_vmap(without_calls(gm))))
    for node in gm.graph.nodes:
        if torch_private.gives_memory(node):
            raise Refused(
                "the forward pass puts a weight or another tensor into other memory (`.data = ...`, `set_`), which a "
                f"cached step would not do (%{node.args[0]})"
            )
    with autocast.off(around), torch_private.as_dynamo_runs():
        return without_wrappers(gm)


def _export(
    gm: fx.GraphModule, inputs: Sequence[Any], around: tuple[str, ...]
) -> tuple[fx.GraphModule, list[str], bool]:
    try:
        with autocast.off(around):
            return torch_private.export_functional(gm, inputs)
    except Exception as error:
        if torch_private.is_data_dependent_error(error):
            raise Refused(data_decides("the forward pass")) from error
        if torch_private.is_of_duplicates(error):
            raise Refused(
                "the forward pass writes to a tensor that it is given a second time, within another"
            ) from error
        raise


def _attribute(gm: fx.GraphModule, name: str) -> Tensor:
    module, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(gm.get_submodule(module), leaf)
    return tensor
