"""Stands in for AOTInductor, which takes half a minute for each graph."""

from pathlib import Path
from typing import Any

import pytest
from torch import fx

from duca_compile import torch_private


class InMemory:
    """Keeps the `graphs`, by file, and runs them as they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graphs: dict[Path, fx.GraphModule] = {}
        monkeypatch.setattr(torch_private, "package_ahead_of_time", self.package)
        monkeypatch.setattr(torch_private, "load_package", self.graphs.__getitem__)

    def package(self, gm: fx.GraphModule, inputs: tuple[Any, ...], path: Path, changes: Any) -> None:
        gm(*(given.clone() for given in inputs))
        self.graphs[path] = gm
