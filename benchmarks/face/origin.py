"""Where a result is from: the machine, the release of torch and the command."""

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Origin:
    machine: str
    torch: str
    command: str

    @property
    def line(self) -> str:
        return f"{self.machine}, torch {self.torch}; `{self.command}`."


def origin(command: str, arguments: Sequence[str], device: str = "cpu") -> Origin:
    """Of a run of `python benchmarks COMMAND ARGUMENTS` on this machine."""
    return Origin(
        machine(device), torch.__version__, shlex.join(["python", "benchmarks", *command.split(), *arguments])
    )


def machine(device: str = "cpu") -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{platform.machine()}, CPU, {threads} thread{'s' * (threads > 1)}"
