"""Calls of compiled functions, and how Dynamo compiles them.

- `compile_wrapper` in `torch._dynamo.eval_frame`, the frame of every call of a compiled function, with its locals
  `self`, `fn`, `args`, `kwargs` and `cleanups`, and `GraphModule.compile_subgraph_reason`: whether a graph is all of a
  forward pass, and the call of which it is a part.
- `OptimizedModule.dynamo_ctx`, `Module._compiled_call_impl`, `_torchdynamo_orig_callable` and the `self` that
  `compile_wrapper` closes over, their `callback`, `innermost_backend` and `torch._TorchCompileWrapper`: the options
  that a model was compiled with.
- `Module._call_impl`: what is to be compiled of a module that was compiled in place; with its local `self`: which
  modules are running around a compiled one.
- `recompile_limit` and `accumulated_recompile_limit` of `torch._dynamo.config`: how often it captures a function;
  `invalidate_compile_context_weakrefs`: whether it forgets the tensors that it has seen, as for a registered backend.
- `torch._dynamo.exc.BackendCompilerFailed`: what an exception of a backend becomes; Dynamo keeps nothing then.
- `torch._dynamo.exc.RestartAnalysis`: by what a compiler makes Dynamo capture anew, with a number as a constant.
- `torch._dynamo.lookup_backend`.
- `current_tx` of `torch._dynamo.symbolic_convert`, its `output`, and `torch_function_subclass_inlined` of that, which
  2.11 lacks: whether Dynamo runs a graph with Python of tensors' own off.
"""

import contextlib
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch._dynamo import symbolic_convert
from torch._dynamo.eval_frame import innermost_backend
from torch._dynamo.exc import RestartAnalysis as RestartAnalysis

from duca_compile.torch_private.tensors import without_own_functions


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

    @property
    def compiled(self) -> Any:
        """The module that was compiled, or the function."""
        return self.function if self.module is None else self.module

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


def original(compiled: Any) -> Any:
    """The module or function that was compiled; itself where nothing was."""
    module = getattr(compiled, "_orig_mod", compiled)
    return getattr(module, "_torchdynamo_orig_callable", module)


def is_from_dynamo(gm: fx.GraphModule) -> bool:
    """Whether Dynamo is compiling just this graph, of which it says why it ends there."""
    return hasattr(gm, "compile_subgraph_reason")


def is_whole(gm: fx.GraphModule) -> bool:
    """Whether no graph break ends the graph being compiled either: it is all of the forward pass that was called."""
    return not gm.compile_subgraph_reason.graph_break and opens_call()  # type: ignore[union-attr]


def opens_call() -> bool:
    """Whether no Python of the model has run before the graph that is being compiled."""
    compiling = itertools.dropwhile(lambda frame: not _is_torchs(frame), _frames())
    outside = next((frame for frame in compiling if _is_root(frame) or not _is_torchs(frame)), None)
    return outside is None or _is_root(outside)


def as_dynamo_runs() -> AbstractContextManager[object]:
    """A context in which Python of tensors' own is on or off as in the graph that is being compiled, once it runs."""
    translator = getattr(symbolic_convert.tls, "current_tx", None)
    is_off = getattr(getattr(translator, "output", None), "torch_function_subclass_inlined", False)
    return without_own_functions() if is_off else nullcontext()


def break_reason(gm: fx.GraphModule) -> str:
    """Why Dynamo ended the graph, in one line."""
    return str(gm.compile_subgraph_reason.reason).strip().splitlines()[0]  # type: ignore[union-attr]


_TORCH = str(Path(torch.__file__).parent)
_NOT_THE_USERS = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/", contextlib.__file__)
"""Files of torch, of ours, and what runs the context managers of both."""


def users_frame() -> FrameType:
    """The innermost frame that calls us, or the compiled function that we are in, from outside of torch and of us."""
    own, *frames = _frames()
    del own  # it would hold itself
    begin = next((at for at, frame in enumerate(frames) if _is_root(frame)), 0)
    outside = (frame for frame in frames[begin:] if not frame.f_code.co_filename.startswith(_NOT_THE_USERS))
    return next(outside, frames[-1])


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


def capturing() -> Any:
    """A context in which a backend of our own looks at what Dynamo captures.

    It captures a function once more, however many sizes and models it has seen it with, and keeps no weak references
    to the model's tensors, with which quantised ones could not be moved.
    """
    return torch._dynamo.config.patch(
        recompile_limit=sys.maxsize, accumulated_recompile_limit=sys.maxsize, invalidate_compile_context_weakrefs=True
    )


@contextmanager
def backend_may_raise(expected: type[Exception]) -> Iterator[None]:
    """Lets a backend end a compilation by an exception of its own, which Dynamo wraps."""
    try:
        yield
    except torch._dynamo.exc.BackendCompilerFailed as failed:
        if not isinstance(failed.inner_exception, expected):
            raise
