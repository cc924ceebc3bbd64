"""The tables of `python benchmarks quality`, from files of rows as a run leaves them."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sampling
from face.origin import Origin
from quality import generate, latency, samplers, table
from quality.rows import FROM_NOISE, PLACED, SOLVERS, Row, load, rows

OF = Origin("a machine", "2.13", "python benchmarks quality")
FLOW = "trained flow, shift 3"


def put(folder: Path, row: Row, error: float, flops: int) -> None:
    """As `generate` saves it."""
    images = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + error
    torch.save({"images": [images], "flops": flops, "full_steps": 10, "held_bytes": 2**20}, row.path(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, rows()[0], 0.002, 200)
    for sampler, flops in (("DDIM", 100), (FLOW, 60)):
        put(tmp_path, Row.own(sampler), 0.0, flops)
        put(tmp_path, Row.cached(sampler, "preset fast"), 0.02, 20)
    return tmp_path


def cells(folder: Path) -> dict[tuple[str, str], list[str]]:
    table.write(folder, folder / "out", OF)
    lines = (folder / "out" / "quality.md").read_text().splitlines()
    split = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {(found[0], found[1]): found[2:] for found in split}


def test_rows_are_compared_with_those_of_their_own_model(folder: Path) -> None:
    found = cells(folder)
    assert found["sampler", ""] == ["full steps", "FLOPs", "cache a sample (MiB)", "own (dB)", "exact (dB)"]
    assert found["DDIM", "preset fast"][1:] == ["5.00x", "1.00", "40.0 ± 0.0", "40.9 ± 0.0"]
    assert found[FLOW, "preset fast"][1:] == ["3.00x", "1.00", "40.0 ± 0.0", ""]
    assert found["DDIM", "uncached, 50 steps"][3] == ""
    assert (folder / "out" / "quality.png").exists()


def test_times_are_a_column_where_they_were_measured(folder: Path) -> None:
    how = {"pairs": 3, "batch": 4, "machine": "a machine", "torch": "2.13", "ratios": [4.0, 4.5, 6.0]}
    (folder / latency.FILE).write_text(json.dumps({"preset fast": how}))
    found = cells(folder)
    assert found["sampler", ""][2] == "time"
    assert [found["DDIM", name][2] for name in ("preset fast", "uncached, 50 steps")] == ["4.50x", "1.00x"]
    assert found[FLOW, "preset fast"][2] == ""
    assert "median of 3 pairs of generations of 4 images" in (folder / "out" / "quality.md").read_text().replace(
        "\n", " "
    )


def test_a_model_without_weights_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samplers, "FLOW_WEIGHTS", folder / "none.pt")
    row = Row.computed(FLOW, 7)
    generate.generate(row, 1, folder)
    assert capsys.readouterr().out == f"{FLOW}, uncached, 7 steps: left out, as none.pt is missing\n"
    assert not load(row, folder).images


def test_a_trained_flow_goes_straight_where_its_model_does() -> None:
    image, noise = torch.rand(2, 1, 28, 28), sampling.initial_noise(2, 0)
    asked: list[float] = []

    def model(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        asked.append(float(t[0]))
        assert torch.allclose(x, noise + (1 - t[0] / 1000) * (image - noise), atol=1e-5)
        return noise - image

    made = samplers.TrainedFlow(3).images(model, noise, torch.arange(2), 5, None)
    assert torch.allclose(made, image, atol=1e-5)
    assert asked == pytest.approx([1000 * share for share in samplers.TrainedFlow(3).grid(5)])
    assert asked[0] == 1000


def test_only_samplers_of_the_diffusion_model_approach_the_exact_images() -> None:
    assert not any("trained" in sampler for sampler in FROM_NOISE)
    assert {Row.own(FLOW).whole, Row.own("UniPC").whole} == {Row.own(FLOW), Row.own("DDIM")}


@pytest.mark.slow
def test_a_row_is_timed_beside_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "compiled", lambda row, model: model)
    fewer = Row.computed("DDIM", 7)
    latency.measure([Row.own("DDIM"), fewer], tmp_path, pairs=2, batch=1)
    found = latency.known(tmp_path)
    assert found.keys() == {fewer.name}
    assert len(found[fewer.name]["ratios"]) == 2
    monkeypatch.setattr(latency, "paired", lambda *given: pytest.fail("it was measured once more"))
    latency.measure([fewer], tmp_path, pairs=2, batch=1)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_a_solver_that_takes_all_steps_is_the_sampler(sampler: str) -> None:
    def model(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return torch.tanh(x + t[:, None, None, None] / 1000)

    whole = samplers.SAMPLERS[sampler]
    assert isinstance(whole, samplers.Scheduled)
    placed = samplers.Placed(whole, tuple(range(20)), 20)
    noise, labels = sampling.initial_noise(2, 0), torch.arange(2)
    found, wanted = (each.images(model, noise, labels, 20, None) for each in (placed, whole))
    assert torch.allclose(found, wanted, atol=1e-4)


def test_rows_on_the_full_steps_of_a_preset_cost_as_many() -> None:
    placed = [row for row in rows() if row.name in PLACED]
    assert {(row.sampler, row.steps) for row in placed} == {(each, steps) for each in SOLVERS for steps in (16, 10, 7)}
    row = placed[1]
    assert isinstance(row.made_by, samplers.Placed)
    assert len(row.made_by.grid(row.steps)) == row.steps
    assert row.made_by.grid(row.steps)[0] == samplers.SAMPLERS[row.sampler].grid(50)[0]
