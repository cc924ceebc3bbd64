"""What one process has compiled, the next one takes from Inductor's caches, as under plain `torch.compile`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import duca_compile
from zoo.case import noise
from zoo.core import example_dit

CACHES = ("inductor", "fxgraph_cache"), ("aot_autograd", "autograd_cache")
TIMES = (900.0, 880.0, 860.0)
ONE_KIND = {"order": "aggressive"}
"""FULL and AGGRESSIVE alone: two graphs to compile in place of three."""


def in_a_process(cache: Path, **given: Any) -> dict[str, Any]:
    """What `generate` gives in a process with its cache of compiled code in `cache`."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def generate(
    options: Mapping[str, Any] | None, dynamic: bool | None = None, load: str = "", save: str = ""
) -> dict[str, Any]:
    """Of a generation: by name of a cache what became of its lookups, the graphs compiled, and the sum of the latents.

    Without options under plain `torch.compile`; `load` and `save` are files of cache artifacts.
    """
    if load:
        torch.compiler.load_cache_artifacts(Path(load).read_bytes())
    model = example_dit()
    always = {"method": "duca", "strict": True, "cache_ratio": 0.5}
    ours: dict[str, Any] = {} if options is None else {"backend": "duca", "options": {**always, **options}}
    fast = torch.compile(model, dynamic=dynamic, **ours)
    with torch.no_grad():
        x, labels = noise(2, 1, 8, 8), torch.tensor([1, 2])
        for t in TIMES:
            x = x - 0.05 * fast(x, torch.full((2,), t), labels)
    artifacts = torch.compiler.save_cache_artifacts()
    if save and artifacts:
        Path(save).write_bytes(artifacts[0])
    looked_up = {
        f"{name}_{result}": counters[of][f"{name}_{result}"]
        for of, name in CACHES
        for result in ("hit", "miss", "bypass")
    }
    graphs = 1 if options is None else sum(count > 0 for count in duca_compile.stats(model).steps.values())
    return {**looked_up, "graphs": graphs, "sum": float(x.double().sum())}


def check_second_is_warm(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """A capture that Dynamo began anew has missed AOTAutograd's cache once more."""
    for _, name in CACHES:
        assert first[f"{name}_hit"] == 0
        assert first[f"{name}_miss"] >= first["graphs"]
        assert (second[f"{name}_hit"], second[f"{name}_bypass"]) == (second["graphs"], 0), second
    assert second["fxgraph_cache_miss"] == 0
    assert second["sum"] == first["sum"]


@pytest.mark.slow
def test_a_process_with_artifacts_generates_no_code(tmp_path: Path) -> None:
    """It has an empty cache of its own, and the artifacts of the first."""
    first = in_a_process(tmp_path / "cache", options=ONE_KIND, save=str(tmp_path / "artifacts"))
    assert first["graphs"] == 2
    check_second_is_warm(first, in_a_process(tmp_path / "empty", options=ONE_KIND, load=str(tmp_path / "artifacts")))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("options", [None, {"outline": True}, {"outline": False}])
def test_all_modes_come_from_the_cache_or_from_artifacts(
    options: dict[str, Any] | None, dynamic: bool | None, tmp_path: Path
) -> None:
    """Without options plain `torch.compile`, by which ours is measured."""
    given = {"options": options, "dynamic": dynamic}
    first = in_a_process(tmp_path / "cache", **given, save=str(tmp_path / "artifacts"))
    assert first["graphs"] == (1 if options is None else 3)
    check_second_is_warm(first, in_a_process(tmp_path / "cache", **given))
    check_second_is_warm(first, in_a_process(tmp_path / "empty", **given, load=str(tmp_path / "artifacts")))


if __name__ == "__main__":
    print(json.dumps(generate(**json.loads(sys.argv[1]))))
