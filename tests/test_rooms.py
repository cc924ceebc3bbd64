"""A room of the package imports only from the rooms below it: `CONTRIBUTING.md` shows them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import duca_compile

PACKAGE = Path(duca_compile.__file__).parent
FLOORS = (
    ("releases",),
    ("torch_private",),
    ("refusal",),
    ("graph", "kernels"),
    ("capture",),
    ("analysis",),
    ("methods",),
    ("plan",),
    ("passes", "generations"),
    ("cost",),
    ("runtime",),
    ("study",),
    ("backend",),
    ("report", "cost_model", "programs"),
    ("tuning",),
    ("cli",),
)
"""From the ground up. Rooms of one floor do not know each other."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


DOORS = (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
SOURCES = [
    *(path for path in PACKAGE.rglob("*.py") if path not in DOORS and path.parent.name != "passes"),
    *(PACKAGE / "passes").glob("*.py"),
]


def test_every_file_lies_in_a_room() -> None:
    assert {room_of(path) for path in SOURCES} == FLOOR.keys()


def test_a_room_imports_only_from_below() -> None:
    upwards = [
        f"{path.relative_to(PACKAGE)} imports from {there}"
        for path in SOURCES
        for there in {name.split(".")[1] for name in _modules(path) if "." in name}
        if there != room_of(path) and FLOOR[there] >= FLOOR[room_of(path)]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Whatever the room; what is imported for types alone counts."""
    known = {_module(path): path for path in SOURCES}
    needs = {name: {each for each in _modules(path) if each in known} - {name} for name, path in known.items()}
    while True:
        free = {name for name, others in needs.items() if not others & needs.keys()}
        if not free:
            break
        needs = {name: others for name, others in needs.items() if name not in free}
    assert not needs, f"these files import each other: {sorted(needs)}"


def _module(path: Path) -> str:
    return ".".join(("duca_compile", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def _modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "duca_compile":
            assert node.module is not None
            yield node.module
            yield from [f"{node.module}.{alias.name}" for alias in node.names]


def test_contributors_are_shown_every_room_from_the_ground_up() -> None:
    page = Path(__file__).parents[1] / "CONTRIBUTING.md"
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", page.read_text(), re.MULTILINE)
    shown = [
        tuple(name.removesuffix("/").removesuffix(".py") for name in re.findall("`(.*?)`", row)) for _, row in rows
    ]
    assert shown == list(FLOORS)
    assert [int(number) for number, _ in rows] == list(range(1, 1 + len(FLOORS)))


def test_the_public_face_is_all_that_a_user_sees() -> None:
    assert set(duca_compile.__all__) == {
        "DucaWarning", "Mode", "OptionError", "Options", "Program", "Refused", "Report", "Rewritten", "Stats", "Tuned",
        "duca", "explain", "load", "reset", "rewrite", "session", "stats", "timing", "tune",
    }  # fmt: skip
    undocumented = [name for name in duca_compile.__all__ if not getattr(duca_compile, name).__doc__]
    assert not undocumented
