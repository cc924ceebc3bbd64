"""`python benchmarks speed` at tiny sizes: its figures mean nothing here, and every part of it has to run."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from face.draw import WIDTH
from speed import command, report, section, targets
from speed.launches import counted
from speed.section import LeftOut, Outcome, Parts, Section
from speed.sections import NAMES

QUICK = ("machine", "correctness", "flux", "host", "wan", "guard", "few rows")
LONGER = ("dit2 graphs", "dit16", "dit2", "autotune", "peers", "memory", "compile time")
SPEED = {"foretold", "compile", "steps", "cycle", "trajectory", "memory", "launches"}
TINY = ["--device", "cpu", "--tiny", "--inner", "eager", "--minutes", "20"]


def ran(out: Path, names: tuple[str, ...]) -> dict[str, Any]:
    command.main([*TINY, "--out", str(out), "--ways", "duca", "--sections", *names])
    (written,) = out.glob("*.json")
    result: dict[str, Any] = json.loads(written.read_text())
    assert {each["name"]: each["error"] or each["left_out"] for each in result["sections"]} == dict.fromkeys(names)
    rendered = written.with_suffix(".md").read_text()
    for each in result["sections"]:
        assert each["parts"]
        assert each["title"] in rendered
        if "steps" in each["parts"]:
            assert each["parts"].keys() >= SPEED
    assert max(map(len, filter(lambda line: line[:1] != "|", rendered.splitlines()))) <= WIDTH
    assert "`python benchmarks speed --device cpu --tiny " in rendered
    assert result["torch"] == torch.__version__
    return {each["name"]: each["parts"] for each in result["sections"]}


def test_every_section_is_in_one_of_the_groups() -> None:
    assert set(NAMES) == {*QUICK, *LONGER}
    assert set(targets.SPEED) <= {*QUICK, *LONGER}


@pytest.mark.slow
def test_sections_give_figures(tmp_path: Path) -> None:
    sections = ran(tmp_path, QUICK)
    assert max(sections["correctness"]["dit2"]["worst"].values()) < 1e-6
    for name in ("flux", "wan"):
        parts = sections[name]
        assert parts["trajectory"]["steps"] == {"full": 4, "conservative": 3, "aggressive": 3}
        assert parts["steps"]["full"]["promised"] == 1
        assert parts["cycle"]["promised"] > 1
        assert parts["steps"].keys() == parts["launches"].keys() == {"plain", "full", "conservative", "aggressive"}
        assert parts["memory"]["held_mib"] == parts["memory"]["held_foretold_mib"]
        assert parts["launches"]["full"]["flash"] == parts["launches"]["plain"]["flash"] > 0
        assert "warnings" not in parts
    for name in ("host", "guard"):
        assert sections[name]["us"].keys() == {"full", "conservative", "aggressive", "torch.compile"}
        assert not sections[name]["resets"]["by reason"]
    assert "share" in sections["few rows"]["2 rows"]


@pytest.mark.slow
def test_the_other_sections_give_figures(tmp_path: Path) -> None:
    sections = ran(tmp_path, LONGER)
    assert "share" in sections["peers"]["duca-compile, compiled"]
    assert sections["compile time"]["plain"]["seconds_ratio"] == 1
    assert sections["memory"]["dit2, defaults"]["of"]["held"]["foretold_mib"] > 0


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_every_figure(tmp_path: Path) -> None:
    """Whether it is fast enough is for the report to say; that it is right, for this test."""
    result = command.main(["--out", str(tmp_path)])
    assert not [each["error"] for each in result["sections"] if each["error"]]
    met = {verdict["title"]: verdict["met"] for verdict in result["targets"]}
    assert met["float32 against the CPU"]


def one(run: Any, left: float = 60) -> tuple[Outcome, list[dict[str, Any]]]:
    saved: list[dict[str, Any]] = []
    outcome = section.run(Section("one", "One", 1, run), left, lambda found: saved.append(dict(found.parts)))
    return outcome, saved


def test_a_section_that_raises_keeps_what_it_has() -> None:
    def raises() -> Parts:
        yield "first", {"ms": 1.0}
        raise ValueError("no such kernel\nand more")

    outcome, saved = one(raises)
    assert outcome.error == "ValueError: no such kernel"
    assert saved == [{"first": {"ms": 1.0}}] * 2
    assert report.unfinished(vars(outcome)) == ("one", "failed: ValueError: no such kernel")


def test_a_section_that_cannot_run_says_why() -> None:
    def cannot() -> Parts:
        raise LeftOut("diffusers is not installed")
        yield

    outcome, _ = one(cannot)
    assert report.unfinished(vars(outcome)) == ("one", "left out: diffusers is not installed")


def test_a_section_without_time_is_left_out() -> None:
    outcome, _ = one(lambda: pytest.fail("it ran"), left=0.5)
    assert outcome.left_out == "0 s were left, and it takes about 1"


def test_a_section_that_takes_too_long_is_stopped() -> None:
    def sleeps() -> Parts:
        yield "first", {}
        time.sleep(30)

    outcome, saved = one(sleeps, left=1)
    assert outcome.error == "stopped after 1 s"
    assert saved[-1] == {"first": {}}


def test_figures_of_tiny_sizes_are_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(TINY)
    assert "--out" in capsys.readouterr().err


def test_sections_run_once_more_replace_their_own(tmp_path: Path) -> None:
    path = tmp_path / "speed_a-card.json"
    assert command.kept(path, ["flux"]) == []
    path.write_text(json.dumps({"sections": [{"name": "flux"}, {"name": "wan"}]}))
    assert command.kept(path, ["flux"]) == [{"name": "wan"}]


def event(name: str, on: str, us: float, annotation: bool = False) -> SimpleNamespace:
    spent = SimpleNamespace(elapsed_us=lambda: us)
    return SimpleNamespace(name=name, device_type=f"DeviceType.{on}", time_range=spent, is_user_annotation=annotation)


def test_kernels_are_counted_by_what_they_are() -> None:
    found = counted(
        [
            event("triton_poi_fused_0", "CUDA", 10),
            event("void pytorch_flash::flash_fwd_kernel<...>", "CUDA", 30),
            event("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "CUDA", 20),
            event("Memcpy HtoD (Pinned -> Device)", "CUDA", 5),
            event("Torch-Compiled Region: 0/0", "CUDA", 1000, annotation=True),
            event("cuLaunchKernelEx", "CPU", 4),
            event("cudaStreamSynchronize", "CPU", 4),
            event("aten::empty", "CPU", 2),
        ],
        on_gpu=True,
    )
    assert (found["kernels"], found["copies"], found["busy_ms"]) == (3, 1, 0.065)
    assert (found["flash"], found["other_attention"]) == (1, 1)
    assert found["host_calls"] == {"cuLaunchKernelEx": 1, "cudaStreamSynchronize": 1}


def steps(full: float, aggressive: float) -> dict[str, Any]:
    return {"steps": {"full": {"share": full}, "aggressive": {"share": aggressive}}}


def test_the_worst_figure_decides() -> None:
    sections = {"flux": steps(1.0, 0.01), "dit2": steps(1.01, 0.3)}
    found = {each.title: (each.worst, each.word) for each in targets.verdicts(sections)}
    assert found["full over plain"] == ("dit2", "met")
    assert found["aggressive over plain"] == ("dit2", "missed")
    assert found["peak over forecast"] == (None, "not measured")


@pytest.mark.parametrize(("measured", "word"), [(100, "met"), (104, "met"), (106, "missed"), (94, "missed")])
def test_a_peak_off_the_forecast_either_way_misses(measured: float, word: str) -> None:
    sections = {"flux": {"memory": {"full_mib": measured, "full_foretold_mib": 100}}}
    assert {each.title: each.word for each in targets.verdicts(sections)}["peak over forecast"] == word


def test_a_figure_that_is_no_number_is_never_within_bounds() -> None:
    sections = {"flux": {"trajectory": {"of_promised": float("nan")}}}
    assert targets.verdicts(sections)[0].word == "missed"
