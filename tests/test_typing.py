"""What users write passes mypy as strict as it gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import duca_compile

USER = """
from pathlib import Path

import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode, OptionError, Options, Program, Refused, Report, Rewritten, Stats, Tuned


class Net(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * t


model, call = Net(), (torch.zeros(1), torch.zeros(1))
fast = torch.compile(model, backend="duca")
around = torch.compile(lambda x, t: model(x, t), backend=duca_compile.duca)


def generate(compiled: nn.Module) -> Tensor:
    return torch.zeros(1)


def use() -> None:
    reports: list[Report] = [duca_compile.explain(each, *call, options={"cycle": 2}) for each in (model, fast, around)]
    speedup: float | None = reports[0].verdict.speedup
    reports[0].show()
    reports[0].to_html(Path("x.html"))
    print(speedup, reports[0].to_json(), reports[0].text(60))
    found: Stats = duca_compile.stats(fast)
    full: int = found.steps["full"]
    for generation in found.last_generations:
        print(full, generation.speedup, generation.full["by the method"])
    found.show()
    for each in (model, fast, around):
        duca_compile.reset(each)
    with duca_compile.session("a", steps=50), duca_compile.timing():
        fast(*call)
    tuned: Tuned = duca_compile.tune(generate, model, speedups=3, options={"inner": "eager"})
    tuned.save("x.json", speedup=5)
    program: Rewritten = duca_compile.rewrite(fast, *call, options=None)
    program.save("dit")
    loaded: Program = duca_compile.load("dit")
    print(loaded.start(steps=50)(*call), Options.parse({"preset": "fast"}), Mode.FULL)


try:
    use()
except (DucaWarning, OptionError, Refused):
    pass
"""


@pytest.mark.slow
def test_a_user_s_code_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert [name for name in duca_compile.__all__ if name not in USER] == []
    (tmp_path / "user.py").write_text(USER)
    root = Path(duca_compile.__file__).parents[1]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--python-version=3.12", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
