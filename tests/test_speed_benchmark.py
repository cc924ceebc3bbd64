"""`python benchmarks speed` at tiny sizes: its figures mean nothing here, and every part of it has to run."""

import itertools
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from face.draw import WIDTH
from speed import command, report, section, targets
from speed.launches import counted, waits
from speed.pair import Pair
from speed.peaks import MIB, peaks
from speed.section import LeftOut, Outcome, Parts, Section
from speed.sections import MINUTES, NAMES, sections
from speed.setting import Setting
from speed.steps import foretold

QUICK = ("machine", "correctness", "flux", "host", "wan", "guard", "few rows")
LONGER = ("dit2 graphs", "dit16", "dit2", "autotune", "peers", "memory", "compile time")
SPEED = {"foretold", "compile", "steps", "cycle", "trajectory", "counted trajectory", "memory", "launches"}
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


def test_a_model_gives_every_figure(tmp_path: Path) -> None:
    parts = ran(tmp_path, ("flux",))["flux"]
    assert parts["counted trajectory"]["steps"] == {"full": 2, "conservative": 4, "aggressive": 4}
    assert "| counted session, 10 steps |" in next(tmp_path.glob("*.md")).read_text()


def test_the_sections_fit_into_the_time_of_a_gpu() -> None:
    """By their own estimates: none is left out for want of time."""
    chosen = [each for each in sections(Setting("cuda")) if "cuda" in each.on]
    assert {"correctness", "dit2", "dit16", "flux", "dit2 graphs", "autotune"} <= {each.name for each in chosen}
    assert sum(each.seconds for each in chosen) <= 60 * MINUTES


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """A model on the CPU that is measured as on a GPU: what is asked of torch's CUDA answers with numbers."""
    allocated = itertools.count(0, MIB)
    for name in ("synchronize", "reset_peak_memory_stats", "set_sync_debug_mode"):
        monkeypatch.setattr(torch.cuda, name, lambda *given: None)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: next(allocated))
    setting = Setting("cpu", "eager", tiny=True)
    shape = setting.measured["dit2"]
    subject = shape.subject("cpu", torch.float32)
    with torch.no_grad():
        graph = foretold(shape, subject.model, subject.call(subject.latents, 980.0))
        torch._dynamo.reset()
        plain, cached = setting.plain(subject.model), setting.cached(subject.model)
        yield Pair(replace(setting, device="cuda"), subject, plain, cached, graph)


def test_waits_are_counted_where_they_are(pretended: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waiting(**given: Any) -> Any:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return pretended.cached(**given)

    for pair, want in ((replace(pretended, cached=waiting), 1), (pretended, 0)):
        for around in (nullcontext, pair.counted):
            found = waits(pair, around)
            assert sum(each["steps"] for each in found.values()) == 15
            assert all(each["waits"] == want * each["steps"] for each in found.values())
            assert {name.split(":")[0] for each in found.values() for name in each["where"]} <= {Path(__file__).name}
    assert modes == ["warn", "default"] * 60


def test_peaks_are_of_every_mode(pretended: Pair) -> None:
    found = peaks(pretended)
    assert {
        f"{name}_mib" for name in ("plain", "full", "conservative", "aggressive", "allocated_after")
    } <= found.keys()
    assert found["plain_mib"] == found["full_mib"] == 1


def test_inductors_modes_reach_both(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda model, **how: seen.append(how.get("options", how)))
    setting = Setting("cpu")
    setting.plain(torch.nn.Identity(), "reduce-overhead")
    setting.cached(torch.nn.Identity(), "reduce-overhead")
    plain, cached = seen
    assert plain["mode"] == cached["inductor_mode"] == "reduce-overhead"


@pytest.mark.slow
def test_sections_give_figures(tmp_path: Path) -> None:
    found = ran(tmp_path, QUICK)
    assert max(found["correctness"]["dit2"]["worst"].values()) < 1e-6
    for name in ("flux", "wan"):
        parts = found[name]
        assert parts["trajectory"]["steps"] == {"full": 4, "conservative": 3, "aggressive": 3}
        assert parts["steps"]["full"]["promised"] == 1
        assert parts["cycle"]["promised"] > 1
        assert parts["steps"].keys() == parts["launches"].keys() == {"plain", "full", "conservative", "aggressive"}
        assert parts["memory"]["held_mib"] == parts["memory"]["held_foretold_mib"]
        assert parts["launches"]["full"]["flash"] == parts["launches"]["plain"]["flash"] > 0
        assert "warnings" not in parts
    for name in ("host", "guard"):
        assert found[name]["us"].keys() == {"full", "conservative", "aggressive", "torch.compile"}
        assert not found[name]["resets"]["by reason"]
    assert "share" in found["few rows"]["2 rows"]


@pytest.mark.slow
def test_the_other_sections_give_figures(tmp_path: Path) -> None:
    found = ran(tmp_path, LONGER)
    assert "share" in found["peers"]["duca-compile, compiled"]
    assert found["compile time"]["plain"]["seconds_ratio"] == 1
    assert found["memory"]["dit2, defaults"]["of"]["held"]["foretold_mib"] > 0


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


def test_a_full_step_is_held_to_the_kernels_of_plain_but_under_cuda_graphs() -> None:
    counts = {"launches": {"plain": {"kernels": 70, "flash": 0}, "full": {"kernels": 73}}}
    found = {each.title: each for each in targets.verdicts({"flux": counts, "dit2 graphs": counts})}
    assert found["kernels, full over plain"].found == {"flux": 3.0}
    assert found["kernels, full over plain"].word == "missed"


@pytest.mark.parametrize(("measured", "word"), [(100, "met"), (104, "met"), (106, "missed"), (94, "missed")])
def test_a_peak_off_the_forecast_either_way_misses(measured: float, word: str) -> None:
    sections = {"flux": {"memory": {"full_mib": measured, "full_foretold_mib": 100}}}
    assert {each.title: each.word for each in targets.verdicts(sections)}["peak over forecast"] == word


def test_a_figure_that_is_no_number_is_never_within_bounds() -> None:
    sections = {"flux": {"trajectory": {"of_promised": float("nan")}}}
    assert targets.verdicts(sections)[0].word == "missed"
