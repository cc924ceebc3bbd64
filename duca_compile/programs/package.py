"""Programs as files: packages of AOTInductor's by recipe, the weights once, and a manifest that says how to call."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx

from duca_compile import torch_private
from duca_compile.capture import autocast
from duca_compile.graph import ir
from duca_compile.graph.signature import Signature
from duca_compile.kernels import few_row_linear  # noqa: F401 - packages may call its op
from duca_compile.methods import METHODS, name_of
from duca_compile.methods.base import Method
from duca_compile.plan.options import Options
from duca_compile.plan.step_plan import Selection, Slot
from duca_compile.programs.convention import Convention, TensorForm
from duca_compile.programs.program import Program, StepForm
from duca_compile.refusal import Refused

MANIFEST, WEIGHTS = "manifest.json", "weights.pt"
_FIELDS = ("torch", "method", "options", "seed", "autocast", "same", "call", "recipes")
"""Of a manifest."""


def save(folder: Path, program: Program, graphs: Mapping[str, fx.GraphModule], changes: Mapping[str, Any]) -> None:
    """`graphs` are the program's, by recipe, to be compiled; `changes` are to Inductor's configuration."""
    told = json.dumps(_manifest(program), indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(program.held), folder / WEIGHTS)
    call = program.convention.bound(program.convention.example(), program.held)
    for name, gm in graphs.items():
        with torch.no_grad(), autocast.off(program.autocast):
            torch_private.package_ahead_of_time(gm, _example(gm, call), _file(folder, name), changes)
    (folder / MANIFEST).write_text(told)


def load(path: str | Path) -> Program:
    """The program that `Rewritten.save` has left in a folder. Needs neither the model nor a compiler.

    The packages are native code: load only your own. Raises `ValueError` where another release of torch has made them,
    and where the folder holds none.
    """
    folder = Path(path)
    told = _read(folder)
    if told["torch"] != torch.__version__:
        raise ValueError(
            f"{folder} was compiled by torch {told['torch']}, and this is {torch.__version__}; save it anew"
        )
    return Program(
        method=Options.parse({"method": told["method"], **told["options"]}).method,
        seed=told["seed"],
        steps={name: _form(each) for name, each in told["recipes"].items()},
        runs={name: partial(_run, torch_private.load_package(_file(folder, name))) for name in told["recipes"]},
        convention=_convention(told["call"]),
        held=torch.load(folder / WEIGHTS, weights_only=True),
        autocast=tuple(told["autocast"]),
        same=told["same"],
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        return {name: told[name] for name in _FIELDS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no folder that a program was saved in ({error!r})") from error


def _run(packaged: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    found: Sequence[Any] = packaged(*inputs)
    return found


def _file(folder: Path, recipe: str) -> Path:
    return folder / f"{recipe}.pt2"


def _example(gm: fx.GraphModule, call: Sequence[Any]) -> tuple[Any, ...]:
    """Inputs for all of a graph: those of the `call`, and what is added to them."""
    added = [ir.value(node) for node in ir.placeholders(gm.graph)[len(call) :]]
    return (*call, *(torch.zeros(held.shape, dtype=held.dtype, device=held.device) for held in added))


def _manifest(program: Program) -> dict[str, Any]:
    call = program.convention
    return {
        "torch": torch.__version__,
        **_method(program.method),
        "seed": program.seed,
        "autocast": program.autocast,
        "same": program.same,
        "call": {
            "arguments": [_argument(each) for each in call.arguments],
            "arguments_tree": _tree(call.arguments_tree),
            "inputs": call.inputs,
            "results": call.results,
            "results_tree": _tree(call.results_tree),
        },
        "recipes": {name: dataclasses.asdict(form) for name, form in program.steps.items()},
    }


def _method(method: Method) -> dict[str, Any]:
    name = name_of(method)
    if name not in METHODS:
        raise Refused(f"the method {name} is none of {', '.join(METHODS)}: a file cannot name it")
    fields = dataclasses.fields(method)  # type: ignore[arg-type]
    return {"method": name, "options": {each.name: getattr(method, each.name) for each in fields}}


def _tree(tree: Any) -> str:
    try:
        return torch_private.treespec_dumps(tree)
    except NotImplementedError as error:
        raise Refused(
            f"{error}: a file cannot say what the model takes or returns; use tuples (return_dict=False)"
        ) from None


def _argument(form: Any) -> dict[str, Any]:
    if not isinstance(form, TensorForm):
        return {"value": form}
    dtype = str(form.dtype).removeprefix("torch.")
    return {"shape": form.shape, "stride": form.stride, "dtype": dtype, "device": str(form.device)}


def _convention(told: Mapping[str, Any]) -> Convention:
    arguments = tuple(
        each["value"]
        if "value" in each
        else TensorForm(
            tuple(each["shape"]), tuple(each["stride"]), getattr(torch, each["dtype"]), torch.device(each["device"])
        )
        for each in told["arguments"]
    )
    trees = (torch_private.treespec_loads(told[name]) for name in ("arguments_tree", "results_tree"))
    arguments_tree, results_tree = trees
    return Convention(arguments, arguments_tree, tuple(told["inputs"]), tuple(told["results"]), results_tree)


def _form(told: Mapping[str, Any]) -> StepForm:
    signature: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in told["signature"].items()
    }
    reads, writes = (tuple(Slot(**slot) for slot in told[name]) for name in ("reads", "writes"))
    draws = tuple(Selection(**{**each, "branches": tuple(each["branches"])}) for each in told["draws"])
    return StepForm(Signature(**signature), reads, writes, draws)
