"""A model under both: plain `torch.compile` and ours."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

import duca_compile
from duca_compile.report.graph_report import GraphReport
from models.shapes import Subject
from speed.setting import Setting


@dataclass(frozen=True)
class Pair:
    setting: Setting
    subject: Subject
    plain: Callable[..., Any]
    cached: Callable[..., Any]
    graph: GraphReport

    @property
    def model(self) -> nn.Module:
        return self.subject.model

    @staticmethod
    def counted(steps: int) -> AbstractContextManager[None]:
        """Around one generation: told how many steps it has, ours asks the device nothing."""
        return duca_compile.session(steps=steps)
