"""Tensors that are none, or more than a plain one, and the modes that see their operations.

- `FakeTensorMode` of `torch._subclasses.fake_tensor`, and `torch._dispatch.python.enable_python_dispatcher`: ops on
  symbolic sizes, as Dynamo runs them.
- `TorchDispatchMode` with `ignore_compile_internals`, `_get_current_dispatch_mode`, `_disable_current_modes` of
  `torch.utils._python_dispatch`: counting what operations do.
- `torch._C._disabled_torch_function_impl` and `torch._C.DisableTorchFunctionSubclass`: Python of a tensor's own, in
  place of torch's functions.
- `torch._C._functorch.peek_interpreter_stack`: whether a functorch transform is active.
- `tree_leaves`, `tree_flatten` and `tree_unflatten` of `torch.utils._pytree`: the values in nested lists, tuples and
  dictionaries; `treespec_dumps` and `treespec_loads`: what they are in, as text.
- `torch.utils.weak.WeakIdKeyDictionary`: keys, such as tensors, that are kept alive by nobody and equal by identity.
- `Tensor._version`: how often a tensor's storage was written to.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_unflatten as tree_unflatten
from torch.utils._pytree import treespec_dumps as treespec_dumps
from torch.utils._pytree import treespec_loads as treespec_loads
from torch.utils.weak import WeakIdKeyDictionary as WeakIdKeyDictionary


@contextmanager
def fake_modes(tree: Any) -> Iterator[None]:
    """In the modes of the fake tensors in `tree`, where ops that take no tensor make fake ones too.

    Some ops know symbolic sizes in Python only: which ones differs by release.
    """
    leaves = tree_leaves(tree)
    with ExitStack() as stack:
        for mode in {leaf.fake_mode for leaf in leaves if hasattr(leaf, "fake_mode")}:
            stack.enter_context(mode)
        if any(map(_is_symbolic, leaves)):
            stack.enter_context(enable_python_dispatcher())
        yield


def _is_symbolic(leaf: Any) -> bool:
    return isinstance(leaf, torch.SymInt) or (isinstance(leaf, FakeTensor) and leaf._has_symbolic_sizes_strides)


def is_fake(value: Any) -> bool:
    """Whether it is a tensor without values."""
    return isinstance(value, FakeTensor)


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


def overrides_functions(kind: Any) -> bool:
    """Whether tensors of a class run Python of their own instead of torch's functions, as GGUF weights do."""
    if not isinstance(kind, type) or not issubclass(kind, Tensor):
        return False
    own = getattr(kind.__torch_function__, "__func__", kind.__torch_function__)
    return own not in (Tensor.__torch_function__.__func__, torch._C._disabled_torch_function_impl)  # type: ignore[attr-defined]


def without_own_functions() -> AbstractContextManager[object]:
    """A context in which tensors of all classes are to torch's functions what they are in a Dynamo graph: plain ones.

    Dynamo has written out there what Python of their own does.
    """
    context: AbstractContextManager[object] = torch._C.DisableTorchFunctionSubclass()
    return context


def inside_transform() -> bool:
    """Whether a functorch transform, such as vmap, is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def version(tensor: Tensor) -> int | None:
    """How often it was written to; None where nobody counts (inference mode)."""
    return None if tensor.is_inference() else tensor._version


def versions(tensors: Sequence[Tensor]) -> list[int | None]:
    """Asks each tensor at once, and only where one has no version whether it has one."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [version(tensor) for tensor in tensors]
