"""Every private API of torch that we lean on, in one place; `tests/test_torch_private.py` fails when one changes.

- `torch._functorch.aot_autograd.aot_export_module`: a Dynamo graph as functional, pre-dispatch ATen.
- `torch._dynamo.symbolic_convert.InstructionTranslator.current_tx`: the frame being compiled, for its `self`.
- `grapharg` in a Dynamo placeholder's metadata: whether an input is the module's own parameter or buffer.
- `torch._dynamo.lookup_backend`, `torch._inductor.compile_fx.compile_fx`, `torch._inductor.list_mode_options`.
- `torch._ops.OpOverload`: what the target of an ATen call is, with its tags and schema.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._functorch.aot_autograd import aot_export_module
from torch._ops import OpOverload as OpOverload


def export_functional(gm: fx.GraphModule, inputs: Sequence[Any]) -> tuple[fx.GraphModule, list[str], bool]:
    """Functional pre-dispatch ATen, the names of the attributes lifted to leading inputs, and whether inputs mutate."""
    exported: Any
    with torch.no_grad():
        exported, signature = aot_export_module(gm, inputs, trace_joint=False, pre_dispatch=True, decompositions={})
    lifted = [*signature.parameters, *signature.buffers]
    mutates = bool(signature.buffers_to_mutate or signature.user_inputs_to_mutate)
    return exported, [str(name) for name in lifted], mutates


def frame_module() -> nn.Module | None:
    """The module whose method Dynamo is compiling right now; None for a plain function."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    try:
        root = InstructionTranslator.current_tx().output.root_tx
    except AttributeError:
        return None
    module = root.f_locals.get("self")
    return module if isinstance(module, nn.Module) else None


def is_module_state(placeholder: fx.Node) -> bool:
    """Whether a Dynamo placeholder is a parameter or buffer of a module rather than an argument of the call."""
    argument = placeholder.meta.get("grapharg")
    if argument is None:
        return False
    source = argument.source.guard_source
    return bool(source.is_unspecialized_nn_module() or source.is_specialized_nn_module())


def inner_compiler(inner: str | Callable[..., Any], mode: str | None) -> Callable[..., Any]:
    """The backend function of a registered name; `mode` reaches Inductor as its configuration."""
    if callable(inner):
        return inner
    if inner != "inductor" or not mode or mode == "default":
        found: Callable[..., Any] = torch._dynamo.lookup_backend(inner)
        return found
    from torch._inductor import list_mode_options
    from torch._inductor.compile_fx import compile_fx

    patches = list_mode_options(mode)
    return lambda gm, inputs: compile_fx(gm, inputs, config_patches=patches)
