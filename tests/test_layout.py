"""The passes live in a top-level folder and have one import name."""

import ast
import importlib.util
import re
import subprocess
from pathlib import Path

import duca_compile.passes

ROOT = Path(__file__).parents[1]


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
    for folder in ("duca_compile", "passes"):
        for path in (ROOT / folder).glob("*.py"):
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


def test_private_torch_has_one_door() -> None:
    for folder in ("duca_compile", "passes"):
        for path in (ROOT / folder).glob("*.py"):
            if path.name != "torch_private.py":
                assert not [name for name in named(path.read_text()) if PRIVATE.match(name)], path
