"""Graphs of Dynamo and of ATen.

- `aot_export_module` of `torch._functorch.aot_autograd`: a Dynamo graph as functional, pre-dispatch ATen; what it says
  of inputs that it is given twice.
- `torch._C._functorch.get_dynamic_layer_stack_depth`, `pop_dynamic_layer_stack_and_undo_to_depth`: a capture that fails
  inside of a functorch transform leaves it active.
- `grapharg` in a Dynamo placeholder's metadata: whether an input is the module's own parameter or buffer, and, by
  `torch._dynamo.source.GetItemSource`, of which list it is an item; by `RandomValueSource`, that Python draws it.
  `LocalSource.local_name` is what the user calls it. It also refers to the tensor itself, weakly.
- `example_value` in a Dynamo node's metadata.
- `torch.amp.autocast_mode._enter_autocast` and `_exit_autocast`: the regions of autocast in a Dynamo graph.
- `_vmap_increment_nesting` and `_vmap_decrement_nesting` of `torch._functorch.predispatch`: the extent of a vmap there.
- `make_fx` of `torch.fx.experimental.proxy_tensor`: what a function does, written out as a graph.
- What Dynamo writes for `x.data = y`: `set_`, and from 2.14 on `aten.shallow_copy_data_`.
- `torch._ops.OpOverload`: what the target of an ATen call is, with its tags, its `_schema` and `_can_decompose`;
  `HigherOrderOperator`: that of a call that takes functions, such as a flex attention's.
- `tensor_dict` with `_dynamo_static_input_type` in the metadata of a placeholder, its `_dynamo_source`, and
  `dynamo_compile_id` and `_param_name_to_source` of a graph: by what AOTAutograd learns from Dynamo which inputs stay
  where they are.
- `torch._higher_order_ops.invoke_subgraph`: a call of a subgraph that the compiler compiles once for all its calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx
from torch._dynamo.source import GetItemSource, LocalSource, RandomValueSource
from torch._functorch import predispatch
from torch._functorch.aot_autograd import aot_export_module
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph as invoke_subgraph
from torch._ops import HigherOrderOperator as HigherOrderOperator
from torch._ops import OpOverload as OpOverload
from torch.fx.experimental.proxy_tensor import make_fx as make_fx

enter_autocast = torch.amp.autocast_mode._enter_autocast
exit_autocast = torch.amp.autocast_mode._exit_autocast


def dynamo_value(node: fx.Node) -> Any:
    """The fake value of a node in a Dynamo graph; None where it has none, as a function that an op takes."""
    return node.meta.get("example_value")


def set_dynamo_value(node: fx.Node, value: Any) -> None:
    node.meta["example_value"] = value


def export_functional(gm: fx.GraphModule, inputs: Sequence[Any]) -> tuple[fx.GraphModule, list[str], bool]:
    """Functional pre-dispatch ATen, the names of the attributes lifted to leading inputs, and whether these mutate.

    What the graph changes in place of its other inputs is copied to them at its end.
    """
    exported: Any
    depth = torch._C._functorch.get_dynamic_layer_stack_depth()
    try:
        with torch.no_grad():
            exported, signature = aot_export_module(gm, inputs, trace_joint=False, pre_dispatch=True, decompositions={})
    finally:
        torch._C._functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
    lifted = [*signature.parameters, *signature.buffers]
    _write_back(exported.graph, {str(result): str(given) for result, given in signature.user_inputs_to_mutate.items()})
    return exported, [str(name) for name in lifted], bool(signature.buffers_to_mutate)


def _write_back(graph: fx.Graph, changed: Mapping[str, str]) -> None:
    """Turns the leading results that are changed inputs into copies to these inputs."""
    nodes = {node.name: node for node in graph.nodes}
    output = graph.output_node()
    with graph.inserting_before(output):
        for result, given in changed.items():
            copy = graph.call_function(torch.ops.aten.copy_.default, (nodes[given], nodes[result]))
            copy.meta["val"] = nodes[given].meta["val"]
    results: Any = output.args[0]
    output.args = (results[len(changed) :],)


def is_of_duplicates(error: Exception) -> bool:
    """Whether an export failed as the graph writes to an input that is given to it once more."""
    return "duplicated inputs that are mutated" in str(error)


def schema(op: OpOverload) -> torch.FunctionSchema:
    """The names, defaults and kinds of an operation's arguments and results."""
    return op._schema


def is_composite(op: OpOverload) -> bool:
    """Whether the operation is made of others."""
    return bool(op._can_decompose())


class _Argument(NamedTuple):
    """What is known of a `grapharg` without its tensor."""

    source: Any


def forget_tensors(graph: fx.Graph) -> None:
    """Of a copy of a Dynamo graph: what was captured is known by its source alone.

    `Module.to` exchanges a tensor made of others in its place, and torch does so only where nobody refers to it weakly.
    Dynamo lets go of the tensors of its own graph, but knows of no copies.
    """
    for node in graph.find_nodes(op="placeholder"):
        argument = node.meta.get("grapharg")
        if argument is not None:
            node.meta["grapharg"] = _Argument(argument.source)


def is_module_state(placeholder: fx.Node) -> bool:
    """Whether a Dynamo placeholder is a parameter or buffer of a module rather than an argument of the call."""
    argument = placeholder.meta.get("grapharg")
    if argument is None:
        return False
    source = argument.source.guard_source
    return bool(source.is_unspecialized_nn_module() or source.is_specialized_nn_module())


def is_random(placeholder: fx.Node) -> bool:
    """Whether a Dynamo placeholder is a number that Python's `random` draws at every call."""
    return isinstance(getattr(placeholder.meta.get("grapharg"), "source", None), RandomValueSource)


def gives_memory(node: fx.Node) -> bool:
    """Whether a node of a Dynamo graph gives a tensor the memory of another one."""
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op != "placeholder" and called in ("set_", "shallow_copy_data_")


def vmaps(graph: fx.Graph) -> list[list[fx.Node]]:
    """The outermost vmaps of a Dynamo graph: all nodes from where it enters one to where it leaves it."""
    found: list[list[fx.Node]] = []
    depth = 0
    for node in graph.nodes:
        if node.target is predispatch._vmap_increment_nesting:
            if depth == 0:
                found.append([])
            depth += 1
        if depth:
            found[-1].append(node)
        if node.target is predispatch._vmap_decrement_nesting:
            depth -= 1
    return found


def argument_of(placeholder: fx.Node) -> str:
    """What the user calls what a Dynamo placeholder stands for; of names in other scripts Dynamo's own keep nothing."""
    source = getattr(placeholder.meta.get("grapharg"), "source", None)
    if isinstance(source, LocalSource):
        return source.local_name
    return placeholder.name.removeprefix("l_").removeprefix("kwargs_").removesuffix("_") or placeholder.name


def list_of(placeholder: fx.Node) -> str | None:
    """The list that a Dynamo placeholder is an item of, by its name in the source; None for an argument by itself."""
    source = getattr(placeholder.meta.get("grapharg"), "source", None)
    if isinstance(source, GetItemSource) and isinstance(source.index, int):
        return str(source.base.name)
    return None


def declare_static(graph: fx.Graph, names: Iterable[str]) -> None:
    """Notes that these inputs lie where they are at every call, as a model's parameters do."""
    wanted = set(names)
    for node in graph.find_nodes(op="placeholder"):
        if node.name in wanted:
            node.meta["tensor_dict"] = {"_dynamo_static_input_type": "unguarded"}


def as_from_dynamo(gm: fx.GraphModule) -> None:
    """Makes AOTAutograd read what `declare_static` noted of a graph that holds no tensors."""
    gm.meta.setdefault("dynamo_compile_id", None)
    vars(gm)["_param_name_to_source"] = {}
    for node in gm.graph.find_nodes(op="placeholder"):
        node._dynamo_source = LocalSource(node.name)
