"""A model under both: plain `torch.compile` and ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

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
