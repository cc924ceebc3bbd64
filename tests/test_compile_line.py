"""What is said while graphs compile."""

import io
import logging
import sys
from typing import Any

import pytest
import torch

import duca_compile
from duca_compile.runtime.compile_line import CLEARED, Turns, saying
from helpers import compiled
from tiny import Tiny, tiny_call


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(steps: int = 3, **options: Any) -> None:
    fast = compiled(Tiny().eval(), **options)
    with duca_compile.session(steps=steps):
        for _ in range(steps):
            fast(*tiny_call())


def test_each_graph_is_told_at_its_first_use(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "duca_compile"):
        run(steps=2, cycle=3)
        begun = [each.getMessage() for each in caplog.records if each.getMessage().startswith("compiling")]
        assert begun == ["compiling 1 of 3: full ...", "compiling 2 of 3: conservative ..."]


def test_a_terminal_shows_it_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    run()
    names = ("1 of 3: full", "2 of 3: conservative", "3 of 3: aggressive")
    assert terminal.getvalue() == "".join(f"{CLEARED}duca: compiling {name} ...{CLEARED}" for name in names)


def test_nothing_is_shown_twice_or_in_a_file(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO, "duca_compile"):
        run()
    torch._dynamo.reset()
    monkeypatch.setattr(sys, "stderr", file)
    run()
    monkeypatch.setattr(sys, "stderr", None)
    with saying("as under pythonw"):
        pass
    assert terminal.getvalue() == file.getvalue() == ""


@pytest.mark.parametrize(("kind", "shown"), [("xterm", True), ("dumb", False)])
def test_nothing_is_shown_where_it_cannot_be_taken_away(
    kind: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", kind)
    with saying("compiling"):
        pass
    assert bool(terminal.getvalue()) == shown


def test_a_line_goes_where_compiling_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(OSError, match="disk"), saying("compiling"):
        raise OSError("disk")
    assert terminal.getvalue().endswith(f"compiling{CLEARED}")


def test_a_second_attempt_counts_once() -> None:
    turns = Turns(2)
    told = [turns.told(name) for name in ("full", "reuse", "reuse")]
    assert [each[:16] for each in told] == ["compiling 1 of 2", "compiling 2 of 2", "compiling 2 of 2"]
