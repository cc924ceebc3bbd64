"""The words of the warnings and refusals in the source, as far as they are fixed there."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from duca_compile.refusal import Refused

ROOT = Path(__file__).parents[1]
GIVERS = {"warn": 0, "warning": 0, "note_once": 1}
"""Warnings and the log's warnings, and which argument is the message; it is the first one of a `Refused`, too."""
VARIES = "\0"
"""In the place of what differs from model to model."""


def messages() -> tuple[dict[str, str], set[str]]:
    """Each text with the call that gives it, and the messages that are no text: what was said elsewhere, handed on."""
    texts: dict[str, str] = {}
    others = set()
    for module in modules():
        for call, message in calls(module):
            text = text_of(message, module)
            if fixed(text):
                texts[text] = f"{module.__name__}: {ast.unparse(call)}"
            else:
                others.add(ast.unparse(message))
    return texts, others


def modules() -> Iterator[ModuleType]:
    package = ROOT / "duca_compile"
    for path in sorted({*package.rglob("*.py"), *(package / "passes").glob("*.py")}):  # `passes` is a link
        if path.name != "__main__.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield importlib.import_module(name.removesuffix(".__init__"))


def calls(module: ModuleType) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Those that tell a user something, and the message of each."""
    for node in nodes(module):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            kind = getattr(module, name, None)
            is_refused = isinstance(kind, type) and issubclass(kind, Refused)
            at = 0 if is_refused else GIVERS.get(name)
            if at is not None and len(node.args) > at:
                yield node, node.args[at]


def nodes(module: ModuleType) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(Path(module.__file__ or "").read_text()))


def reset_reasons() -> set[str]:
    """Why generations start over: what `resets[...]` counts, and the reasons of a `Doubt`, which `interruption` gives."""
    found = set()
    for module in modules():
        for node in nodes(module):
            if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "resets":
                found.add(text_of(node.slice, module))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Doubt":
                found.add(text_of(node.args[0], module))
            if isinstance(node, ast.FunctionDef) and node.name == "interruption":
                ends = [end for each in ast.walk(node) if isinstance(each, ast.Return) for end in ast.walk(each)]
                found |= {end.value for end in ends if isinstance(end, ast.Constant) and isinstance(end.value, str)}
    return {reason for reason in found if VARIES not in reason}


def text_of(value: ast.expr, module: ModuleType) -> str:
    if isinstance(value, ast.Constant):
        return re.sub(r"%[sd]|%\.\df", VARIES, str(value.value))
    if isinstance(value, ast.Name):
        constant = getattr(module, value.id, None)
        return constant if isinstance(constant, str) else VARIES
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        constant = getattr(getattr(module, value.value.id, None), value.attr, None)
        return constant if isinstance(constant, str) else VARIES
    if isinstance(value, ast.JoinedStr):
        return "".join(text_of(part, module) for part in value.values)
    if isinstance(value, ast.FormattedValue):
        return text_of(value.value, module)
    if isinstance(value, ast.BinOp):
        return text_of(value.left, module) + text_of(value.right, module)
    return VARIES


def fixed(text: str) -> str:
    """The longest piece that is the same for every model."""
    return max((piece.strip(" ,;:.()%'`") for piece in text.split(VARIES)), key=len)
