"""The lines that a shell takes, in all pages and in what `benchmarks/` and `examples/` say of themselves: what each
names is there, and its arguments are understood. None is run."""

import argparse
import json
import re
import runpy
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from duca_compile.cli.main import COMMANDS, parser
from pages import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for folder in ("benchmarks", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
PROJECT = (ROOT / "pyproject.toml").read_text()


class Understood(Exception):
    """In place of running."""


@pytest.fixture(autouse=True)
def parse_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def understand(self: argparse.ArgumentParser, *given: Any) -> None:
        parse(self, *given)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understand)


def lines_of(path: Path) -> Iterator[list[str]]:
    """The words of each command."""
    text = path.read_text()
    if path.suffix == ".py":
        shown = re.findall(r"^    ((?:curl|make|pip|python) .*)$", text.partition('\n"""')[0], re.MULTILINE)
    else:
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        shown = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
        shown += re.findall(r"`((?:curl|duca|make|pip|python) [^`]+)`", text)
    for line in shown:
        for command in line.split(" && "):
            yield shlex.split(command, comments=True)


def make(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def pip(install: str, what: str) -> None:
    extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
    assert install == "install"
    assert extra, "what is installed lies here"
    assert not extra[1] or f"\n{extra[1]} = [" in PROJECT


def curl(*words: str) -> None:
    from server import Wanted

    (where,) = [word for word in words if word.startswith("localhost:8000/")]
    assert f'("/{where.partition("/")[2]}"' in (ROOT / "examples" / "server.py").read_text()
    if "--json" in words:
        Wanted.model_validate(json.loads(words[words.index("--json") + 1]), strict=True)


def duca(command: str, *arguments: str) -> None:
    """A command alone is its name."""
    assert command in (*COMMANDS, "COMMAND")
    if arguments and command != "COMMAND":
        understood(parser().parse_args, [command, *arguments])


def understood(main: Callable[[Sequence[str]], object], arguments: Sequence[str]) -> None:
    """Or asked for help."""
    with pytest.raises((Understood, SystemExit)) as ended:
        main(arguments)
    assert not (isinstance(ended.value, SystemExit) and ended.value.code)


def python(first: str, *arguments: str) -> None:
    if first == "benchmarks":
        if arguments not in ((), ("NAME",)):
            understood(runpy.run_path(str(ROOT / "benchmarks" / "__main__.py"))["main"], arguments)
    elif first == "-m":
        assert arguments[0] in ("pytest", "duca_compile")
        assert all((ROOT / each).exists() for each in arguments[1:])
    else:
        assert (ROOT / first).is_file()


def tool(name: str) -> None:
    assert re.search(rf'"{name}[=>]', PROJECT)


PROGRAMS: dict[str, Callable[..., None]] = {"curl": curl, "duca": duca, "make": make, "pip": pip, "python": python}


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_shell_is_told_is_there(path: Path) -> None:
    for program, *words in lines_of(path):
        if program.startswith(".venv/bin/"):
            tool(program.removeprefix(".venv/bin/"))
        else:
            PROGRAMS[program](*words)


def test_lines_are_found() -> None:
    assert sum(len(list(lines_of(path))) for path in PAGES) > 45
    assert sum(len(list(lines_of(path))) for path in SOURCES) > 30
    assert list(lines_of(ROOT / "docs" / "serving.md"))[1] == ["python", "examples/server.py"]
