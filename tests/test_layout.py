"""The passes live in a top-level folder and have one import name."""

import ast
import importlib.util
import re
import subprocess
from pathlib import Path

import duca_compile.passes

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "duca_compile").rglob("*.py"), *(ROOT / "passes").glob("*.py")]


def test_passes_have_one_import_name() -> None:
    assert Path(duca_compile.passes.__file__).resolve() == ROOT / "passes" / "__init__.py"
    source = "\n".join(
        path.read_text() for folder in ("duca_compile", "passes", "tests") for path in (ROOT / folder).glob("*.py")
    )
    assert ("import " + "passes") not in source
    assert ("from " + "passes") not in source


def test_the_tree_is_clean_of_machine_paths() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if Path(name).suffix in (".py", ".md", ".toml", ".txt", "") and (ROOT / name).is_file():
            assert ("/" + "work/") not in (ROOT / name).read_text(), name


def test_files_are_rooms_with_one_purpose() -> None:
    for path in SOURCES:
        assert importlib.util.decode_source(path.read_bytes()).lstrip().startswith('"""'), (
            f"{path} says not what it is for"
        )


PRIVATE = re.compile(r"torch(\.(?!ops\b)\w+)*\._(?!_)")


def named(source: str) -> set[str]:
    """What code imports and reads by a dotted name; what its texts tell users is none of it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def defined(source: str) -> set[str]:
    """The names of functions, classes, attributes and variables that code defines."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_no_test_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        assert not [name for name in named(path.read_text()) if re.match(r"(tests\.)?test_", name)], path


OTHERS = {"_get_child_registries", "_getframe", "_replace"}
"""What `diffusers_context.py` asks of `diffusers`, and what Python and its named tuples are asked."""


def test_private_torch_has_one_door() -> None:
    """What is imported from a private name, and what is read of an object by one that is not of our making."""
    own = set().union(*(defined(path.read_text()) for path in SOURCES)) | OTHERS
    for path in SOURCES:
        if path.parent.name != "torch_private":
            names = named(path.read_text())
            assert not [name for name in names if PRIVATE.match(name)], path
            last = {name.rpartition(".")[2] for name in names if not re.match(r"(torch\.ops\.)?aten\.", name)}
            assert not {name for name in last if re.match(r"_[a-z]", name)} - own, path
