"""Every private API of torch that we lean on, in one place; `tests/test_torch_private.py` fails when one changes.

- `torch._dispatch.python.enable_python_dispatcher`: ops on symbolic sizes, as Dynamo runs them.
- `torch._functorch.aot_autograd.aot_export_module`: a Dynamo graph as functional, pre-dispatch ATen.
- `grapharg` in a Dynamo placeholder's metadata: whether an input is the module's own parameter or buffer, and, by
  `torch._dynamo.source.GetItemSource`, of which list it is an item; by `RandomValueSource`, that Python draws it.
- `recompile_limit` and `accumulated_recompile_limit` of `torch._dynamo.config`: how often it captures a function.
- `torch._dynamo.exc.BackendCompilerFailed`: what an exception of a backend becomes; Dynamo keeps nothing then.
- `torch._dynamo.exc.RestartAnalysis`: by what a compiler makes Dynamo capture anew, with a number as a constant.
- `torch._dynamo.lookup_backend`, `config_patches` of the backend "inductor";
  `list_mode_options`, `list_options`, `config.get_type` and `config.triton.cudagraphs` of `torch._inductor`.
- `TracingContext`, `tracing` and `detect_fake_mode` of `torch._guards`, `FakeTensorMode` and what it
  remembers, `ShapeEnv`: the surroundings in which Inductor and AOTAutograd use their caches, as Dynamo makes them.
- `compile_wrapper` in `torch._dynamo.eval_frame`, the frame of every call of a compiled function, with its locals
  `self`, `fn`, `args`, `kwargs` and `cleanups`, and `GraphModule.compile_subgraph_reason`: whether a graph is all of a
  forward pass, and the call of which it is a part.
- `torch._C._functorch.peek_interpreter_stack`: whether a functorch transform is active; and
  `get_dynamic_layer_stack_depth`, `pop_dynamic_layer_stack_and_undo_to_depth`: a capture that fails inside of one
  leaves it active.
- `example_value` in a Dynamo node's metadata, `torch.amp.autocast_mode._enter_autocast` and `_exit_autocast`: the
  regions of autocast in a Dynamo graph.
- `_vmap_increment_nesting` and `_vmap_decrement_nesting` of `torch._functorch.predispatch`: the extent of a vmap in a
  Dynamo graph.
- `torch._ops.OpOverload`: what the target of an ATen call is, with its tags and schema; `HigherOrderOperator`: that of
  a call that takes functions, such as a flex attention's.
- `torch._higher_order_ops.invoke_subgraph`: a call of a subgraph that the compiler compiles once for all its calls.
- `torch.ops.mkldnn._linear_pointwise`: oneDNN's linear layer over weights as they are.
- `torch.utils._pytree.tree_leaves`: the values in nested lists, tuples and dictionaries.
- `torch.utils.weak.WeakIdKeyDictionary`: keys, such as tensors, that are kept alive by nobody and equal by identity.
- `OptimizedModule.dynamo_ctx`, `Module._compiled_call_impl`, `_torchdynamo_orig_callable` and the `self` that
  `compile_wrapper` closes over, their `callback`, `innermost_backend` and `torch._TorchCompileWrapper`: the options
  that a model was compiled with; `Module._call_impl`: what is to be compiled of one that was compiled in place.
- `torch.utils._python_dispatch.is_traceable_wrapper_subclass` and `torch._C._disabled_torch_function_impl`: what a
  capture cannot take as an input.
- `torch.nn.Module._call_impl`, with its local `self`: which modules are running around a compiled one.
- `GuardOnDataDependentSymNode`, `DataDependentOutputException`, `DynamicOutputShapeException`: what is raised where a
  size or value that only the data decides is asked for.
- `TorchDispatchMode` with `ignore_compile_internals`, `_get_current_dispatch_mode`, `_disable_current_modes` of
  `torch.utils._python_dispatch` and `OpOverload._can_decompose`: counting what operations do.
- `SymInt.node`, `optimization_hint`, `free_unbacked_symbols`, `ShapeEnv.create_symintnode`, `evaluate_expr` and
  `guarding_hint_or_throw`, `torch.utils._sympy`: symbolic sizes as sympy expressions, expressions as graph nodes, and
  guards on them.
"""

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import sympy
import torch
import torch._inductor.config
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.eval_frame import innermost_backend
from torch._dynamo.exc import RestartAnalysis as RestartAnalysis
from torch._dynamo.source import GetItemSource, RandomValueSource
from torch._functorch import predispatch
from torch._functorch.aot_autograd import aot_export_module
from torch._guards import TracingContext, detect_fake_mode, tracing
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph as invoke_subgraph
from torch._ops import HigherOrderOperator as HigherOrderOperator
from torch._ops import OpOverload as OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx.experimental.symbolic_shapes import (
    GuardOnDataDependentSymNode,
    ShapeEnv,
    free_unbacked_symbols,
    optimization_hint,
)
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import (
    _disable_current_modes,
    _get_current_dispatch_mode,
    is_traceable_wrapper_subclass,
)
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis
from torch.utils.weak import WeakIdKeyDictionary as WeakIdKeyDictionary

from duca_compile.causes import causes

enter_autocast = torch.amp.autocast_mode._enter_autocast
exit_autocast = torch.amp.autocast_mode._exit_autocast
CUDA_GRAPHS = "triton.cudagraphs"


def dynamo_value(node: fx.Node) -> Any:
    """The fake value of a node in a Dynamo graph."""
    return node.meta["example_value"]


@contextmanager
def fake_modes(tree: Any) -> Iterator[None]:
    """In the modes of the fake tensors in `tree`, where ops that take no tensor make fake ones too.

    Some ops know symbolic sizes in Python only.
    """
    leaves = tree_leaves(tree)
    with ExitStack() as stack:
        for mode in {leaf.fake_mode for leaf in leaves if hasattr(leaf, "fake_mode")}:
            stack.enter_context(mode)
        if any(isinstance(leaf, torch.SymInt) for leaf in leaves):
            stack.enter_context(enable_python_dispatcher())
        yield


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


class RootCall(NamedTuple):
    """A call of a compiled function, from outside. `owner` is the same for all calls of one `torch.compile`."""

    owner: Any
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """A dictionary of this call alone."""
    cleanups: list[Callable[[], None]]
    """Called at the end of this call, however it ends."""

    @property
    def module(self) -> nn.Module | None:
        """The module that was compiled; None for a function."""
        held = getattr(self.function, "__self__", self.function)
        return held if isinstance(held, nn.Module) else None

    def arguments(self) -> dict[str, Any]:
        """By the names of the function's, or of the module's forward's, parameters."""
        signature = inspect.signature(self.function if self.module is None else self.module.forward)
        bound = signature.bind(*self.args, **self.kwargs)
        return dict(bound.arguments)


def root_call() -> RootCall | None:
    """The innermost call of a compiled function that the caller is in."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_root(frame):
        frame = frame.f_back
    if frame is None:
        return None
    held = frame.f_locals
    return RootCall(held["self"], held["fn"], held["args"], held["kwargs"], held["cleanups"])


def options_of(compiled: Any, backend: str) -> Mapping[str, Any] | None:
    """The `options` that a model or function was compiled with by this backend; None where it was not.

    By `torch.compile(model, ...)` or `model.compile(...)`.
    """
    context = getattr(compiled, "dynamo_ctx", None)
    wrapper = getattr(compiled, "_compiled_call_impl", None) or compiled
    if context is None and hasattr(wrapper, "_torchdynamo_orig_callable"):
        context = inspect.getclosurevars(wrapper).nonlocals.get("self")
    called: Any = innermost_backend(getattr(context, "callback", None))  # type: ignore[arg-type]
    if getattr(called, "compiler_fn", None) is not torch._dynamo.lookup_backend(backend):
        return None
    options: Mapping[str, Any] = called.kwargs.get("options", {})
    return options


def uncompiled(model: Any) -> Any:
    """What a compiled module runs, to be compiled once more; all else as it is."""
    module = getattr(model, "_orig_mod", model)
    return module._call_impl if getattr(module, "_compiled_call_impl", None) is not None else module


def is_whole(gm: fx.GraphModule) -> bool:
    """Whether no graph break ends the graph being compiled either: it is all of the forward pass that was called."""
    return not gm.compile_subgraph_reason.graph_break and opens_call()  # type: ignore[union-attr]


def opens_call() -> bool:
    """Whether no Python of the model has run before the graph that is being compiled."""
    compiling = itertools.dropwhile(lambda frame: not _is_torchs(frame), _frames())
    outside = next((frame for frame in compiling if _is_root(frame) or not _is_torchs(frame)), None)
    return outside is None or _is_root(outside)


def break_reason(gm: fx.GraphModule) -> str:
    """Why Dynamo ended the graph, in one line."""
    return str(gm.compile_subgraph_reason.reason).strip().splitlines()[0]  # type: ignore[union-attr]


_TORCH = str(Path(torch.__file__).parent)


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_torchs(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_TORCH)


def _is_root(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_name == "compile_wrapper" and code.co_filename.endswith("eval_frame.py")


def is_composite(op: OpOverload) -> bool:
    """Whether the operation is made of others."""
    return bool(op._can_decompose())


@contextmanager
def fake_tensors() -> Iterator[None]:
    """A context in which operations make fake tensors, and no dispatch mode that the caller is in sees them."""
    with _disable_current_modes(), FakeTensorMode():
        yield


def unseen() -> AbstractContextManager[object]:
    """A context whose operations no dispatch mode of the user's sees, such as one that counts what a model does."""
    return nullcontext() if _get_current_dispatch_mode() is None else _disable_current_modes()


def current_dispatch_mode() -> TorchDispatchMode | None:
    """The one entered last of those that are active."""
    return _get_current_dispatch_mode()


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


def is_wrapper(value: Any) -> bool:
    """Whether it is a tensor made of others, such as a quantised weight."""
    return isinstance(value, Tensor) and is_traceable_wrapper_subclass(value)


def overrides_functions(kind: Any) -> bool:
    """Whether tensors of a class run Python of their own instead of torch's functions, as GGUF weights do."""
    if not isinstance(kind, type) or not issubclass(kind, Tensor):
        return False
    own = getattr(kind.__torch_function__, "__func__", kind.__torch_function__)
    return own not in (Tensor.__torch_function__.__func__, torch._C._disabled_torch_function_impl)  # type: ignore[attr-defined]


def is_data_dependent_error(error: BaseException) -> bool:
    """Whether it was raised, or caused, by a question about a size or value that only the data answers."""
    kinds = (GuardOnDataDependentSymNode, DataDependentOutputException, DynamicOutputShapeException)
    return any(isinstance(each, kinds) for each in causes(error))


def enclosing_module() -> nn.Module | None:
    """The innermost module whose forward has called the compiled function as a part of itself; None outside of all."""
    inner = root_call()
    outside = itertools.dropwhile(lambda frame: not _is_root(frame), _frames())
    calls = (frame.f_locals["self"] for frame in outside if frame.f_code is nn.Module._call_impl.__code__)
    if inner is None or inner.module is None:
        return None
    return next((each for each in calls if _holds(each, inner.module)), None)


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    """Whether `inner` is a part of it rather than what it wraps or is."""
    wrapped = getattr(outer, "_orig_mod", outer)
    return wrapped is not inner and any(part is inner for part in outer.modules())


def inside_transform() -> bool:
    """Whether a functorch transform, such as vmap, is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


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


def list_of(placeholder: fx.Node) -> str | None:
    """The list that a Dynamo placeholder is an item of, by its name in the source; None for an argument by itself."""
    source = getattr(placeholder.meta.get("grapharg"), "source", None)
    if isinstance(source, GetItemSource) and isinstance(source.index, int):
        return str(source.base.name)
    return None


def any_number_of_graphs() -> Any:
    """A context in which Dynamo captures a function once more, however many sizes and models it has seen it with."""
    return torch._dynamo.config.patch(recompile_limit=sys.maxsize, accumulated_recompile_limit=sys.maxsize)


@contextmanager
def backend_may_raise(expected: type[Exception]) -> Iterator[None]:
    """Lets a backend end a compilation by an exception of its own, which Dynamo wraps."""
    try:
        yield
    except torch._dynamo.exc.BackendCompilerFailed as failed:
        if not isinstance(failed.inner_exception, expected):
            raise


def has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def onednn_linear() -> OpOverload:
    """`(input, weight, bias, "none", [], "")`, where torch is built with oneDNN."""
    found: OpOverload = torch.ops.mkldnn._linear_pointwise.default
    return found


def inner_compiler(inner: str | Callable[..., Any], changes: Mapping[str, Any]) -> Callable[..., Any]:
    """The backend function of a registered name; `changes` reach Inductor as its configuration."""
    if callable(inner):
        return inner
    found: Callable[..., Any] = torch._dynamo.lookup_backend(inner)
    return partial(_compile_with_caches, found, changes) if inner == "inductor" else found


def _compile_with_caches(
    inductor: Callable[..., Any], changes: Mapping[str, Any], gm: fx.GraphModule, inputs: Sequence[Any]
) -> Callable[..., Any]:
    """Inductor's function, kept on disk and in what `torch.compiler.save_cache_artifacts` gives.

    Its caches need a tracing context that knows shapes. Dynamo has ended its own when a mode is compiled at its first
    call: then all sizes are those of the inputs, and no guard is taken. Where it has not, its symbols must stay. Nor is
    there one for numbers among the inputs: it would make symbols of them, under guards that nobody checks.
    """
    if TracingContext.try_get() is not None or not all(isinstance(given, Tensor) for given in inputs):
        compiled: Callable[..., Any] = inductor(gm, inputs, config_patches=dict(changes))
        return compiled
    mode = detect_fake_mode(inputs) or FakeTensorMode(shape_env=ShapeEnv())
    with tracing(TracingContext(mode)):
        static = [mode.from_tensor(given, static_shapes=True) for given in inputs if not isinstance(given, FakeTensor)]
        compiled = inductor(gm, inputs, config_patches=dict(changes))
        del static  # until here: the mode remembers them, and takes an input that it knows as it is
    return compiled


def inductor_modes() -> dict[str, dict[str, Any]]:
    """What each `mode` of `torch.compile` changes in Inductor's configuration."""
    return dict(torch._inductor.list_mode_options())


def inductor_options() -> dict[str, type | None]:
    """The names in Inductor's configuration, with the type of each where it is a plain one."""
    config: Any = torch._inductor.config
    kinds = {name: config.get_type(name) for name in torch._inductor.list_options()}
    plain = (bool, int, float, str)
    return {name: kind if kind in plain else None for name, kind in kinds.items()}


def records_cuda_graphs(changes: Mapping[str, Any], inputs: Sequence[Any]) -> bool:
    """Whether Inductor, so configured, would run a graph over these inputs as a CUDA graph."""
    config: Any = torch._inductor.config
    wanted = bool(changes.get(CUDA_GRAPHS, config.triton.cudagraphs))
    return wanted and any(isinstance(given, Tensor) and given.device.type == "cuda" for given in inputs)


def size(held: int | torch.SymInt) -> Any:
    """A number, or a sympy expression where symbolic. Expressions compare by structure, so asking adds no guard."""
    if isinstance(held, int):
        return held
    return whole(held.node.expr)


def whole(expression: Any) -> Any:
    """A size as a number where no symbol is left in it: what is divided out of symbolic ones is an expression still."""
    return int(expression) if isinstance(expression, sympy.Expr) and expression.is_number else expression


def size_now(held: int | torch.SymInt) -> int:
    """The size that this call has, without a guard: only for guesses that may be wrong for another call."""
    return int(optimization_hint(held, fallback=1))


def is_data_dependent(sizes: Sequence[Any]) -> bool:
    """Whether one of the sizes is known only when the graph runs, as the number of tokens that an expert gets."""
    return bool(free_unbacked_symbols([size for size in sizes if isinstance(size, sympy.Expr)]))


def floor_divide(dividend: Any, divisor: int) -> Any:
    """`dividend // divisor` of whole numbers or symbolic sizes."""
    return whole(FloorDiv(dividend, divisor)) if isinstance(dividend, sympy.Expr) else dividend // divisor


def symbolic_int(expression: Any, like: Tensor) -> torch.SymInt:
    """The expression as a size in the shape environment of the fake tensor `like`."""
    shapes: Any = like.fake_mode.shape_env  # type: ignore[attr-defined]
    found: torch.SymInt = shapes.create_symintnode(expression, hint=int(shapes.guarding_hint_or_throw(expression)))
    return found


def guard_positive(expression: Any, like: Tensor) -> bool:
    """Whether the expression is at least 1 for the sizes at hand; Dynamo compiles anew for sizes where it differs."""
    return bool(like.fake_mode.shape_env.evaluate_expr(sympy.Ge(expression, 1)))  # type: ignore[attr-defined]


def size_node(expression: sympy.Expr, symbols: Mapping[sympy.Symbol, fx.Node]) -> fx.Node:
    """Nodes that compute the expression, at the graph's insertion point, from the nodes that hold its symbols."""
    graph = next(iter(symbols.values())).graph
    tracer = fx.proxy.GraphAppendingTracer(graph)
    known = set(graph.nodes)
    proxies = {symbol: fx.Proxy(node, tracer) for symbol, node in symbols.items()}
    found: fx.Node = sympy_interp(PythonReferenceAnalysis, proxies, expression).node
    for node in graph.nodes:
        if node not in known:
            node.meta["val"] = node.target(*fx.map_arg(node.args, lambda operand: operand.meta["val"]))
    return found
